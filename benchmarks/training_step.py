"""Seconds per optimizer step: prefix sharing on and off, bf16 and fp32, side by side in one run on the atlas data.

    python benchmarks/training_step.py [--steps 4] [--out benchmarks/results/training_step.json]

Needs `python examples/atlas/make.py` first. Writes JSON with commit, device and units, and prints a table.
"""
import argparse
import json
import statistics
import subprocess
import time
from pathlib import Path
from unittest import mock

import torch
from rich.console import Console
from rich.table import Table

from feinschliff.arms.context import in_context
from feinschliff.arms.prompt import prompt
from feinschliff.compose import device, model_folder
from feinschliff.core.chat import Rendered
from feinschliff.core.jobs import TrainSpec
from feinschliff.core.study import Mapping
from feinschliff.data.read import load
from feinschliff.data.render import Renderer
from feinschliff.nn import tree
from feinschliff.train import batches
from feinschliff.train.model import Trainable
from feinschliff.train.step import optimizer_step

ROOT = Path(__file__).parents[1]
ATLAS = ROOT / "examples" / "atlas"
BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4, help="measured steps per variant, after one that warms up")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "training_step.json")
    arguments = parser.parse_args()
    model = model_folder("smollm2-135m-instruct")
    rows = [
        measure(model, data, name, dtype, share, arguments.steps)
        for name, data in datasets(Renderer.of(model)).items()
        for dtype in (torch.bfloat16, torch.float32)
        for share in (True, False)
    ]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    result = {"commit": commit, "device": device(), "torch": torch.__version__, "batch_examples": BATCH, "rows": rows}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    show(rows)


def datasets(renderer: Renderer) -> dict[str, list[Rendered]]:
    """The bare questions, and the same with the example's engineered prompt in front, which all of them share."""
    mapping = Mapping(input="question", output="gql", system="Translate the question to ISO GQL.")
    examples = load(ATLAS / "data" / "train.jsonl", "mapped", mapping)[:64]
    prompted = in_context(examples, prompt((ATLAS / "prompt.md").read_text(encoding="utf-8")))
    return {
        "bare": [r for e in examples for r in renderer.render(e)],
        "shared prompt": [r for e in prompted for r in renderer.render(e)],
    }


def measure(
    folder: Path, examples: list[Rendered], name: str, dtype: torch.dtype, share: bool, steps: int
) -> dict[str, str | float | bool]:
    """Median seconds of `steps` steps. Sharing is switched at the one place that packs."""
    model = Trainable.make(TrainSpec(model=str(folder), train_files=("-",)), folder, dtype)
    optimizer = torch.optim.AdamW(list(model.parameters().values()), lr=0.0, fused=True)
    times = []
    with mock.patch.object(batches, "pack", lambda e: tree.pack(e, share=share)):
        for step in range(steps + 1):
            batch = [examples[(step * BATCH + i) % len(examples)] for i in range(BATCH)]
            t0 = time.perf_counter()
            result = optimizer_step(model, optimizer, batch, rate=1e-4, max_grad_norm=1.0, budget_tokens=1 << 20)
            times.append(time.perf_counter() - t0)
    return {
        "data": name, "dtype": str(dtype).removeprefix("torch."), "share_prefixes": share,
        "s_per_step": round(statistics.median(times[1:]), 3), "logical_tokens": result.logical_tokens,
        "computed_tokens": result.computed_tokens, "last_loss": round(result.loss, 4),
    }  # fmt: skip


def show(rows: list[dict[str, str | float | bool]]) -> None:
    table = Table(title=f"one optimizer step of {BATCH} examples")
    for key in rows[0]:
        table.add_column(key.replace("_", " "))
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()

"""Predicted against measured peak memory of one optimizer step of SmolLM2-135M, each case in a process of its own.

    python benchmarks/memory.py [--out benchmarks/results/memory.json]

Predicted: resident memory with the model loaded, plus train.memory's footprint. Measured: the kernel's high-water mark of
the second step (VmHWM, Linux only), when gradients and optimizer state exist. Writes JSON in MB and prints a table.
"""
import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from feinschliff.catalog.available import give_back
from feinschliff.compose import device, model_folder
from feinschliff.core.chat import Rendered
from feinschliff.core.jobs import Full, Lora, TrainSpec
from feinschliff.train.memory import apply, footprint
from feinschliff.train.model import Trainable
from feinschliff.train.state import Cut
from feinschliff.train.step import optimizer_step

ROOT = Path(__file__).parents[1]
MODEL = "smollm2-135m-instruct"
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
CASES = [
    (method, precision, recomputed, n_tokens)
    for method in ("lora", "full")
    for precision in ("bf16", "fp32")
    for recomputed in (False, True)
    for n_tokens in (512, 1536)
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "memory.json")
    parser.add_argument("--methods", nargs="+", default=["lora", "full"])
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        method, precision, recomputed, n_tokens = arguments.case
        print(json.dumps(measure(model_folder(MODEL), method, precision, recomputed == "True", int(n_tokens))))
        return
    rows = []
    for case in (c for c in CASES if c[0] in arguments.methods):
        told = subprocess.run(
            [sys.executable, __file__, "--case", *map(str, case)], capture_output=True, text=True, check=True
        )
        rows.append(json.loads(told.stdout))
        print(told.stdout.strip(), flush=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    result = {"commit": commit, "device": device(), "torch": torch.__version__, "unit": "MB", "rows": rows}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    show(rows)


def measure(folder: Path, method: str, precision: str, recomputed: bool, n_tokens: int) -> dict[str, str | float | bool]:
    """Two steps of one micro-batch of branches of up to 256 tokens, half of each trained, after a stem of 256."""
    spec = TrainSpec(model=str(folder), train_files=("-",), method=Lora() if method == "lora" else Full())
    model = Trainable.make(spec, folder, DTYPES[precision])
    give_back()
    loaded = resident("VmRSS:")
    t0 = time.perf_counter()
    cost = footprint(model, recomputed=recomputed)
    seconds = time.perf_counter() - t0
    give_back()
    apply(Cut(1 << 20, recomputed), model)
    optimizer = torch.optim.AdamW(list(model.parameters().values()), lr=0.0, fused=True)
    stem = list(range(256))
    examples = [
        Rendered([*stem, *((1000 * b + t) % 40_000 for t in range(257))], [0.0] * (256 + 129) + [1.0] * 128)
        for b in range(1, n_tokens // 256)
    ]
    for _ in range(2):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark starts anew
        t0 = time.perf_counter()
        step = optimizer_step(model, optimizer, examples, rate=1e-5, max_grad_norm=1.0, budget_tokens=1 << 20)
    step_seconds = time.perf_counter() - t0
    measured = resident("VmHWM:")
    predicted = loaded + cost.needs(step.computed_tokens, step.trained_tokens, 512) / 1e6
    return {
        "method": method, "precision": precision, "recompute": recomputed, "tokens": step.computed_tokens,
        "trained": step.trained_tokens, "loaded": round(loaded), "predicted": round(predicted), "measured": round(measured),
        "error_percent": round(100 * (predicted / measured - 1), 1),
        "error_percent_of_growth": round(100 * ((predicted - loaded) / (measured - loaded) - 1), 1), "probe_s": round(seconds, 2),
        "step_s": round(step_seconds, 2),
    }  # fmt: skip


def resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(field))


def show(rows: list[dict[str, str | float | bool]]) -> None:
    table = Table(title="peak memory of a training step, MB")
    for key in rows[0]:
        table.add_column(key.replace("_", " "))
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()

"""How the cost of training grows: with data (1× to 64×), with the length of examples (128 to 4,096 tokens), with the batch (1 to 64).

    python benchmarks/training/growth.py [--only data,tokens,batch] [--out benchmarks/results/growth.json] [--again]

Feinschliff alone, as its users run it. Data and batch grow on data set S (a shared prompt), length on texts that share nothing.
The results file is written after every run; what stands in it is not run again unless --again is given.
"""
import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import ours
import synthetic
from environments import CACHE, threads
from results import ROOT, WARM_UP, machine
from rich.console import Console
from rich.table import Table
from run import LEARNING_RATE, MODEL
from synthetic import Turn

from feinschliff.compose import model_folder
from feinschliff.core.jobs import Lora, TrainSpec
from feinschliff.data.files import write_text

SCALES = (1, 2, 4, 8, 16, 32, 64)
DATA_SCALES = (1, 4, 16, 64)  # a run of 64 is four times all the smaller ones together
LENGTHS = (128, 256, 512, 1024, 2048, 4096)
EXAMPLES_AT_1 = 16  # in the smallest data set
STEPS = 5  # of a run that grows in length or batch, the first of them warms up

Row = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="data,tokens,batch", help="some of data,tokens,batch")
    parser.add_argument("--smoke", action="store_true", help="the two smallest sizes of each, to see that all of it works")
    parser.add_argument("--again", action="store_true", help="run anew what the results file holds")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds after which a run is stopped")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "growth.json")
    a = parser.parse_args()
    model = model_folder(MODEL)
    found: dict[str, Any] = {} if a.again or not a.out.exists() else json.loads(a.out.read_text(encoding="utf-8"))["runs"]
    for kind in a.only.split(","):
        sizes, make = _KINDS[kind]
        for size in sizes[:2] if a.smoke else sizes:
            key = f"{kind}/{size}"
            if key not in found:
                print(f"benchmark: {key}", flush=True)
                chats, batch = make(size)
                found[key] = _run(model, kind, chats, batch, a.limit)
                units = {"s": "seconds", "gib": "GiB of peak resident memory"}
                document = machine() | {"threads": threads(), "units": units, "runs": found}
                write_text(a.out, json.dumps(document, indent=1) + "\n")
    _show(found)


def _data(scale: int) -> tuple[Iterator[list[Turn]], int]:
    """One epoch over `scale` times the smallest data set, 8 examples a step."""
    return synthetic.shared_prompt(EXAMPLES_AT_1 * scale), 8


def _tokens(length: int) -> tuple[Iterator[list[Turn]], int]:
    """4 examples a step of about `length` tokens, half of them answer."""
    rng = random.Random(length)
    return (synthetic.sized(rng, length, 0.5) for _ in range(4 * STEPS)), 4


def _batch(size: int) -> tuple[Iterator[list[Turn]], int]:
    return synthetic.shared_prompt(size * STEPS), size


_KINDS: dict[str, tuple[Sequence[int], Callable[[int], tuple[Iterator[list[Turn]], int]]]] = {
    "data": (DATA_SCALES, _data), "tokens": (LENGTHS, _tokens), "batch": (SCALES, _batch),
}  # fmt: skip


def _run(model: Path, kind: str, chats: Iterator[list[Turn]], batch: int, limit_s: float) -> Row:
    folder = CACHE / "growth"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"messages": [{"role": r, "content": c} for r, c in chat]} for chat in chats]
    write_text(folder / "train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    spec = TrainSpec(
        model=str(model), train_files=(str(folder / "train.jsonl"),), method=Lora(),
        hyperparameters=ours.constant(batch, LEARNING_RATE), save_every_steps=10**6,
    )  # fmt: skip
    trained = ours.train(folder / "run", spec, limit_s=limit_s)
    times = [s.seconds for s in trained.steps]
    later = trained.steps[WARM_UP:] or trained.steps
    seconds = sum(s.seconds for s in later)
    return {
        "examples": len(rows), "steps": len(times), "s_per_step": median(s.seconds for s in later),
        "s_per_step_min": min(s.seconds for s in later), "s_per_step_max": max(s.seconds for s in later),
        "logical_tokens_per_s": sum(s.logical_tokens for s in later) / seconds,
        "computed_tokens_per_step": median(s.computed_tokens for s in later),
        "s_outside_steps": trained.wall_s - sum(times), "wall_s": trained.wall_s,
        "wall_s_per_example": trained.wall_s / len(rows), "peak_gib": trained.finished.peak_memory_bytes / 2**30,
    }  # fmt: skip


def _show(found: dict[str, Row]) -> None:
    table = Table(title="cost growth")
    table.add_column("run")
    for column in next(iter(found.values()), {}):
        table.add_column(column.replace("_", " "), justify="right")
    for key, row in found.items():
        table.add_row(key, *(f"{value:.3g}" if value < 1000 else f"{value:.0f}" for value in row.values()))
    Console(width=max(170, Console().width)).print(table)


if __name__ == "__main__":
    main()

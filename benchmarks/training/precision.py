"""bf16 against fp32: 200 steps on zograscope_train, three seeds, the validation losses at the end side by side.

    python benchmarks/training/precision.py [--seeds 0,1,2] [--precisions bf16,fp32] [--steps 200] [--out benchmarks/results/precision.json] [--again]

Bare questions, as the example study trains on them; validation is on held-out ones of the same data set. Runs are kept in the cache: a killed one goes on at its last saved step.
"""
import argparse
import json
from pathlib import Path
from typing import Any

import data_sets
import ours
from environments import CACHE, threads
from results import ROOT, commit, machine
from rich.console import Console
from rich.table import Table
from run import LEARNING_RATE, MODEL

from feinschliff.compose import model_folder
from feinschliff.core.jobs import Lora, TrainSpec
from feinschliff.data.files import write_text

BATCH = 2
N_VALIDATION = 128
GOAL_PERCENT = 1.0
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--precisions", default="bf16,fp32", help="some of bf16,fp32")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--validation", type=int, default=N_VALIDATION, help="held-out questions")
    parser.add_argument("--again", action="store_true", help="run anew what the results file holds")
    parser.add_argument("--limit", type=float, default=7200.0, help="seconds after which a run is stopped")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "precision.json")
    a = parser.parse_args()
    model = model_folder(MODEL)
    train = _chats("zograscope_train.jsonl", a.steps * BATCH)
    validation = _chats("zograscope_test_iid_dev.jsonl", a.validation)
    found: dict[str, Row] = {} if a.again or not a.out.exists() else json.loads(a.out.read_text(encoding="utf-8"))["runs"]
    for seed in (int(s) for s in a.seeds.split(",")):
        for precision in a.precisions.split(","):
            key = f"{precision}/{seed}/{a.steps}"
            if key not in found:
                print(f"benchmark: {key}", flush=True)
                spec = TrainSpec(
                    model=str(model), train_files=(str(train),), validation_file=str(validation), method=Lora(), seed=seed,
                    hyperparameters=ours.constant(BATCH, LEARNING_RATE), precision=precision,
                )  # fmt: skip
                found[key] = _run(CACHE / "precision" / f"{precision}-{seed}-{a.steps}-{commit().split()[0]}", spec, a.limit, a.again)
                _save(a.out, found)
    _show(found)


def _chats(file: str, n: int) -> Path:
    path = CACHE / "data" / f"precision-{Path(file).stem}-{n}.jsonl"
    bare = ([turn for turn in row if turn[0] != "system"] for row in data_sets.zograscope(file))
    rows = [{"messages": [{"role": r, "content": c} for r, c in row]} for _, row in zip(range(n), bare, strict=False)]
    if len(rows) < n:
        raise SystemExit(f"{file} has {len(rows)} rows, {n} are wanted: lower --steps or --validation")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return path


def _run(folder: Path, spec: TrainSpec, limit_s: float, again: bool) -> Row:
    trained = ours.train(folder, spec, limit_s=limit_s, resume=not again)
    return {
        "valid_loss": trained.validations[-1].valid_loss, "valid_token_accuracy": trained.validations[-1].valid_token_accuracy,
        "train_losses": [s.train_loss for s in trained.steps], "seconds": sum(s.seconds for s in trained.steps),
        "peak_gib": trained.finished.peak_memory_bytes / 2**30, "commit": commit(),
    }  # fmt: skip


def _pairs(found: dict[str, Row]) -> list[tuple[str, float, float, float]]:
    """Seed and steps, the losses in bf16 and fp32, and by how many percent the first is higher."""
    pairs = []
    for key, row in found.items():
        precision, rest = key.split("/", 1)
        exact = found.get(f"fp32/{rest}")
        if precision == "bf16" and exact is not None:
            low, high = row["valid_loss"], exact["valid_loss"]
            pairs.append((rest, low, high, 100.0 * (low / high - 1)))
    return pairs


def _save(out: Path, found: dict[str, Row]) -> None:
    percent = {rest: difference for rest, _, _, difference in _pairs(found)}
    units = {"valid_loss": "nats per trained token", "seconds": "s in steps", "bf16_above_fp32_percent": "% of the fp32 validation loss"}
    document = machine() | {"threads": threads(), "units": units, "bf16_above_fp32_percent": percent, "runs": found}
    write_text(out, json.dumps(document, indent=1) + "\n")


def _show(found: dict[str, Row]) -> None:
    table = Table(title=f"validation loss in bf16 and fp32; the goal is a difference of at most {GOAL_PERCENT:g} %")
    for column in ("seed/steps", "bf16", "fp32", "difference, %", ""):
        table.add_column(column, justify="right")
    for rest, low, high, difference in _pairs(found):
        table.add_row(rest, f"{low:.4f}", f"{high:.4f}", f"{difference:+.2f}", "reached" if abs(difference) <= GOAL_PERCENT else "missed")
    Console().print(table)


if __name__ == "__main__":
    main()

"""Feinschliff measured as its users run it: the training program in a process of its own, its events read afterwards."""
import shutil
from dataclasses import dataclass
from pathlib import Path

import children

from feinschliff.compute import process
from feinschliff.core.jobs import Failed, Finished, Hyperparameters, Step, TrainSpec, Validation
from feinschliff.train.events import EventLog


class Broken(Exception):
    """The training program did not finish; the text says why."""


@dataclass(frozen=True, slots=True)
class Trained:
    steps: tuple[Step, ...]
    validations: tuple[Validation, ...]
    finished: Finished
    wall_s: float  # with start, loading and saving


def constant(batch_size: int, learning_rate: float) -> Hyperparameters:
    """One epoch at a constant rate from the first step on."""
    return Hyperparameters(
        n_epochs=1, batch_size=batch_size, learning_rate=learning_rate, schedule="constant", warmup_ratio=0.0
    )


def train(run_dir: Path, spec: TrainSpec, *, limit_s: float, resume: bool = False) -> Trained:
    """Run `spec` in `run_dir`, from the beginning or (`resume`) from where a killed run stood. Raises Broken."""
    if not resume:
        shutil.rmtree(run_dir, ignore_errors=True)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "spec.json").write_text(spec.model_dump_json(indent=2), encoding="utf-8")
    log = run_dir / "log.txt"
    ended = children.wait(process.start("feinschliff.train", [str(run_dir)], log), limit_s)
    events = EventLog(run_dir / "events.jsonl").read()
    finished = next((e for e in events if isinstance(e, Finished)), None)
    if finished is None:
        failed = next((e for e in reversed(events) if isinstance(e, Failed)), None)
        raise Broken(failed.message if failed else f"ended with code {ended.code}: {process.last_lines(log)}")
    steps = {e.step: e for e in events if isinstance(e, Step)}  # a resumed run may tell a step twice
    validations = tuple(e for e in events if isinstance(e, Validation))
    return Trained(tuple(steps.values()), validations, finished, ended.wall_s)

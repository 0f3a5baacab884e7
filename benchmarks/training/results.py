"""The results file: written after every measurement, so that a killed benchmark goes on where it stood."""
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

from feinschliff.compose import device
from feinschliff.data.files import write_text

ROOT = Path(__file__).resolve().parents[2]
WARM_UP = 1  # first steps that are not counted
UNITS = {
    "seconds": "s per optimizer step, without the first", "examples_per_s": "1/s", "logical_tokens_per_s": "tokens/s as if alone and unpadded",
    "computed_tokens": "tokens per step, padding included, shared ones once", "peak_rss_bytes": "bytes, of the training process; on a GPU, of its tensors there",
    "gflops": "10^9 needed operations per second", "losses": "nats per trained token, warm-up included",
}  # fmt: skip


@dataclass(slots=True)
class Measurement:
    """One system on one case. Lists have an entry per optimizer step, the warm-up first."""

    system: str
    case: str
    status: Literal["measured", "not run"]
    reason: str = ""  # why it was not run
    precision: str = ""
    commit: str = ""
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    examples: list[int] = field(default_factory=list)
    logical_tokens: list[int] = field(default_factory=list)
    computed_tokens: list[int] = field(default_factory=list)
    needed_flops: list[float] = field(default_factory=list)
    peak_rss_bytes: int = 0
    wall_s: float = 0.0
    threads: int = 0
    libraries: str = ""  # allocator and what is preloaded
    versions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def measured(self) -> list[float]:
        return self.seconds[WARM_UP:]

    def examples_per_s(self, steps: int | None = None) -> float:
        """Over the first `steps` measured steps (all of them without)."""
        return _rate(self.examples, self.seconds, steps)

    def summary(self) -> dict[str, float]:
        """The numbers of the table; empty where nothing was measured."""
        if not self.measured:
            return {}
        return {
            "seconds_median": median(self.measured), "seconds_min": min(self.measured), "seconds_max": max(self.measured),
            "examples_per_s": self.examples_per_s(), "logical_tokens_per_s": _rate(self.logical_tokens, self.seconds, None),
            "gflops": _rate(self.needed_flops, self.seconds, None) / 1e9, "peak_rss_gib": self.peak_rss_bytes / 2**30,
        }  # fmt: skip


def _rate(amounts: list[int] | list[float], seconds: list[float], steps: int | None) -> float:
    window = slice(WARM_UP, None if steps is None else WARM_UP + steps)
    return sum(amounts[window]) / sum(seconds[window])


class Results:
    """All measurements so far, in one JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        old: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self._runs = {key: {k: v for k, v in run.items() if k != "summary"} for key, run in old.get("runs", {}).items()}
        self.rates: dict[str, dict[str, float]] = old.get("rates", {})
        self.verdict: list[dict[str, Any]] = []

    def get(self, case: str, system: str) -> Measurement | None:
        run = self._runs.get(f"{case}/{system}")
        return Measurement(**run) if run else None

    def case(self, case: str) -> list[Measurement]:
        return [Measurement(**run) for run in self._runs.values() if run["case"] == case]

    def put(self, measurement: Measurement) -> None:
        self._runs[f"{measurement.case}/{measurement.system}"] = asdict(measurement)
        self.save()

    def save(self) -> None:
        runs = {key: run | {"summary": Measurement(**run).summary()} for key, run in self._runs.items()}
        document = machine() | {"units": UNITS, "rates_gflops": "matrix products alone on the model's shapes", "rates": self.rates}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._path, json.dumps(document | {"runs": runs, "verdict": self.verdict}, indent=1) + "\n")


def machine() -> dict[str, str | int]:
    return {"commit": commit(), "device": device(), "cores": len(os.sched_getaffinity(0)), "python": platform.python_version(), "system": platform.platform()}


def commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", "src")
    return git("rev-parse", "--short=12", "HEAD") + (" with changes in src" if changed else "")

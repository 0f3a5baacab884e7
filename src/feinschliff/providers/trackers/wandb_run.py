"""Weights & Biases, online or offline as the server's environment says (WANDB_API_KEY, WANDB_MODE, WANDB_BASE_URL …)."""
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from feinschliff.core.errors import FeinschliffError
from feinschliff.core.finetune import WandbRun
from feinschliff.core.ports import Outcome, TrackedRun, TrackedStep
from feinschliff.core.service import JobStatus

if TYPE_CHECKING:
    from wandb import Run, Settings

PATIENCE_S = 20.0  # for the first word of a server, and for the last
HEADER = 7  # bytes at the beginning of a file, and before every piece of a record
BLOCK = 32_768  # a record is cut where a block ends (the log format of LevelDB)


class WandbTracker:
    """The run has the job's id, so that a further `begin` goes on with it. Local files are in `folder`/wandb."""

    def __init__(self, run: TrackedRun, chosen: WandbRun, folder: Path) -> None:
        self._tracked, self._chosen, self._folder = run, chosen, folder
        self._run: Run | None = None

    def begin(self) -> int:
        import wandb

        settings = _settings()
        offline = (os.environ.get("WANDB_MODE") or "online") in ("offline", "dryrun")
        if not offline and not wandb.login(prompt=False, verify=False):
            raise FeinschliffError("No WANDB_API_KEY is set.")
        self._folder.mkdir(parents=True, exist_ok=True)
        held = max(_steps(self._folder / "wandb"), default=0) if offline else 0
        self._run = wandb.init(
            project=self._chosen.project, entity=self._chosen.entity, name=self._chosen.name or self._tracked.job,
            tags=self._chosen.tags, id=self._tracked.job, resume="allow", reinit="create_new", dir=str(self._folder),
            config=dict(self._tracked.config), settings=settings,
        )  # fmt: skip
        return max(held, self._run.starting_step - 1)

    def log(self, steps: Sequence[TrackedStep]) -> None:
        for step in steps:
            self._going().log(dict(step.metrics), step=step.step, commit=True)

    def end(self, outcome: Outcome) -> None:
        run = self._going()
        run.summary.update({"status": str(outcome.status), "fine_tuned_model": outcome.model})
        run.finish(exit_code=0 if outcome.status == JobStatus.SUCCEEDED else 1)
        self._run = None

    def close(self) -> None:
        if self._run is not None:
            self._run.finish(exit_code=0)
            self._run = None

    def _going(self) -> "Run":
        if self._run is None:
            raise RuntimeError("begin comes first")
        return self._run


def _settings() -> "Settings":
    """Metrics alone: nothing of the machine, the code or the console. A server that is away is given up, for now."""
    from wandb import Settings

    return Settings(
        console="off", silent=True, save_code=False, disable_git=True, x_disable_stats=True, x_disable_meta=True,
        x_disable_machine_info=True, init_timeout=PATIENCE_S, finish_timeout=PATIENCE_S, finish_timeout_raises=True,
    )  # fmt: skip


def _steps(folder: Path) -> Iterator[int]:
    """The steps in the offline runs of `folder`. Offline, wandb does not know them itself: what it holds back in memory is lost
    with a kill, and a run that is resumed counts from 0."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyrefly: ignore[missing-module-attribute]  generated at import

    for file in folder.glob("offline-run-*/*.wandb"):
        for content in _records(file.read_bytes()):
            record = Record.FromString(content)
            if record.WhichOneof("record_type") == "history":
                yield record.history.step.num


def _records(log: bytes) -> Iterator[bytes]:
    """Whole records of a LevelDB log; the last one may be torn."""
    at, whole = HEADER, b""
    while at + HEADER <= len(log):
        left = BLOCK - at % BLOCK
        _, size, kind = struct.unpack_from("<IHB", log, at)
        if left < HEADER or kind == 0:  # padding
            at += left
            continue
        piece = log[at + HEADER : at + HEADER + size]
        if len(piece) < size:
            return
        whole += piece
        at += HEADER + size
        if kind in (1, 4):  # whole, or the last piece
            yield whole
            whole = b""

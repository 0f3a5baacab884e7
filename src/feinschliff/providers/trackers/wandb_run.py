"""Weights & Biases, online or offline as the server's environment says (WANDB_API_KEY, WANDB_MODE, WANDB_BASE_URL …)."""
import os
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from feinschliff.core.errors import FeinschliffError
from feinschliff.core.finetune import WandbRun
from feinschliff.core.ports import Outcome, TrackedRun, TrackedStep
from feinschliff.core.service import JobStatus

if TYPE_CHECKING:
    from wandb import Run, Settings

PATIENCE_S = 20.0  # for the first word of a server, and for the last
QUIET_S = 2.0  # an unfinished file that has not changed for so long is not written any more
LOOK_EVERY_S = 0.05
OFFLINE = "offline-run-*/*.wandb"
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
        if not _offline() and not wandb.login(prompt=False, verify=False):
            raise FeinschliffError("No WANDB_API_KEY is set.")
        self._folder.mkdir(parents=True, exist_ok=True)
        held = _held_offline(self._folder / "wandb") if _offline() else 0
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
        self._going().summary.update({"status": str(outcome.status), "fine_tuned_model": outcome.model})
        self._finish(0 if outcome.status == JobStatus.SUCCEEDED else 1)

    def close(self) -> None:
        if self._run is not None:
            self._finish(0)

    def _finish(self, exit_code: int) -> None:
        run, self._run = self._going(), None
        run.finish(exit_code=exit_code)
        if _offline():
            _await_finished(self._folder / "wandb")

    def _going(self) -> "Run":
        if self._run is None:
            raise RuntimeError("begin comes first")
        return self._run


def _offline() -> bool:
    return os.environ.get("WANDB_MODE") in ("offline", "dryrun")


def _settings() -> "Settings":
    """Metrics alone: nothing of the machine, the code or the console. A server that is away is given up, for now."""
    from wandb import Settings

    return Settings(
        console="off", silent=True, save_code=False, disable_git=True, x_disable_stats=True, x_disable_meta=True,
        x_disable_machine_info=True, init_timeout=PATIENCE_S, finish_timeout=PATIENCE_S, finish_timeout_raises=True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Log:
    """An offline run on the disk: its steps, and whether it was finished."""

    steps: tuple[int, ...]
    finished: bool


def _log(file: Path) -> _Log:
    from wandb.proto.wandb_internal_pb2 import Record  # pyrefly: ignore[missing-module-attribute]  generated at import

    records = [Record.FromString(content) for content in _records(file.read_bytes())]
    kinds = [record.WhichOneof("record_type") for record in records]
    return _Log(tuple(r.history.step.num for r, kind in zip(records, kinds, strict=True) if kind == "history"), "exit" in kinds)


def _held_offline(folder: Path) -> int:
    """The last step in the files of `folder`. Offline, wandb does not know it: what it holds back in memory is lost with a kill, and
    a run that is resumed counts from 0. A file that was not finished may still be written by the program of a killed server."""
    held = 0
    while any(folder.glob(time.strftime("offline-run-%Y%m%d_%H%M%S-*"))):
        time.sleep(LOOK_EVERY_S)  # wandb names files by the second, and would write over that one
    for file in folder.glob(OFFLINE):
        while not (log := _log(file)).finished and time.time() - file.stat().st_mtime < QUIET_S:
            time.sleep(LOOK_EVERY_S)
        held = max(held, *log.steps, held)
    return held


def _await_finished(folder: Path) -> None:
    """wandb's own `finish` does not wait for the disk. Raises TimeoutError."""
    until = time.monotonic() + PATIENCE_S
    while not _log(max(folder.glob(OFFLINE), key=lambda f: f.stat().st_ctime_ns)).finished:
        if time.monotonic() > until:
            raise TimeoutError(f"wandb has not written its file within {PATIENCE_S:.0f} s")
        time.sleep(LOOK_EVERY_S)


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

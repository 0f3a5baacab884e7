"""This machine's training program as a Trainer: spec.json in, events.jsonl out, tailed by offset."""
import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

from feinschliff.compute import process
from feinschliff.core.errors import FolderInUse, ProgramFailed, TrainingFailed
from feinschliff.core.jobs import TRAIN_EVENT, Failed, Finished, Full, JobId, TrainEvent, TrainSpec
from feinschliff.data.files import write_text

POLL_S = 0.2


class LocalTrainer:
    """Runs jobs in `root/<job id>`. Satisfies core.ports.Trainer."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, job_id: JobId) -> Path:
        return self._root / job_id

    async def run(self, specs: Mapping[JobId, TrainSpec], /) -> AsyncIterator[tuple[JobId, TrainEvent]]:
        """Yield the jobs' events from their beginning: those of earlier starts first, then live ones as they come.

        Adapters are trained by one process over one copy of the base, whole models one after the other. Raises FolderInUse
        where a folder holds another job's spec, TrainingFailed where a training gave up, and ProgramFailed where the program
        died without saying why; jobs in the same process as one that gave up are finished first.
        """
        for job_id, spec in specs.items():
            claim(self.folder(job_id), spec)
        tails = {job_id: _Tail(self.folder(job_id)) for job_id in specs}
        for job_id, tail in tails.items():
            for event in tail.read():
                yield job_id, event
        # A finished job needs no program to find that out.
        waiting = [job_id for job_id, tail in tails.items() if not isinstance(tail.last, Finished)]
        for together in _processes(waiting, specs):
            started = [tails[job_id].started_anew() for job_id in together]
            child = process.start("feinschliff.train", [str(tail.run_dir) for tail in started], started[0].log)
            try:
                alive = True
                while alive:
                    alive = child.poll() is None  # asked before reading, so that nothing written before the end is missed
                    for job_id in together:
                        for event in tails[job_id].read():
                            yield job_id, event
                    if alive:
                        await asyncio.sleep(POLL_S)
            finally:
                process.stop(child)
            for tail in started:
                _judge(child, tail, started[0].log)


def _processes(waiting: list[JobId], specs: Mapping[JobId, TrainSpec]) -> list[list[JobId]]:
    """Which jobs are trained together: whole models would each bring weights, gradients and optimizer states of their own."""
    adapters = [job_id for job_id in waiting if not isinstance(specs[job_id].method, Full)]
    whole = [[job_id] for job_id in waiting if job_id not in adapters]
    return [adapters, *whole] if adapters else whole


class _Tail:
    """One run's events, read by offset as they are appended."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.last: TrainEvent | None = None
        self._offset = 0

    @property
    def log(self) -> Path:
        return self.run_dir / "log.txt"

    def started_anew(self) -> "_Tail":
        """How an earlier start ended says nothing about this one."""
        self.last = None
        return self

    def read(self) -> Iterator[TrainEvent]:
        events, self._offset = _read_from(self.run_dir / "events.jsonl", self._offset)
        for self.last in events:
            yield self.last


def claim(run_dir: Path, spec: TrainSpec) -> None:
    """The folder for this spec alone. Raises FolderInUse where it holds another one."""
    run_dir.mkdir(parents=True, exist_ok=True)
    file = run_dir / "spec.json"
    if not file.exists():
        write_text(file, spec.model_dump_json(indent=2))
    elif TrainSpec.model_validate_json(file.read_text(encoding="utf-8")) != spec:
        raise FolderInUse(
            f"{run_dir} holds the training run of another specification.",
            hint="Choose another output folder, or remove this one if it is not needed any more.",
        )


def _read_from(path: Path, offset: int) -> tuple[Iterator[TrainEvent], int]:
    """Whole lines after `offset`, and where they end."""
    if not path.exists():
        return iter(()), offset
    with path.open("rb") as file:
        file.seek(offset)
        chunk = file.read()
    whole = chunk[: chunk.rfind(b"\n") + 1]
    return (TRAIN_EVENT.validate_json(line) for line in whole.splitlines()), offset + len(whole)


def _judge(child: "subprocess.Popen[str]", tail: _Tail, log: Path) -> None:
    if isinstance(tail.last, Finished):
        return
    if isinstance(tail.last, Failed):
        raise TrainingFailed(f"Training failed: {tail.last.message}", hint=tail.last.hint)
    code = child.returncode
    why = "It was killed; if that was for memory, lower batch_size or use LoRA. " if code < 0 else ""
    raise ProgramFailed(
        f"Training ended with code {code} and no result. {why}\n{process.last_lines(log)}",
        hint=f"Run the same command again to go on from the last saved step; the whole log is {log}.",
    )

"""This machine's training program as a Trainer: spec.json in, events.jsonl out, tailed by offset."""
import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from feinschliff.compute import process
from feinschliff.core.errors import FolderInUse, ProgramFailed, TrainingFailed
from feinschliff.core.jobs import TRAIN_EVENT, Failed, Finished, JobId, TrainEvent, TrainSpec
from feinschliff.data.files import write_text

POLL_S = 0.2


class LocalTrainer:
    """Runs jobs in `root/<job id>`. Satisfies core.ports.Trainer."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, job_id: JobId) -> Path:
        return self._root / job_id

    async def run(self, job_id: JobId, spec: TrainSpec, /) -> AsyncIterator[TrainEvent]:
        """Yield the job's events from its beginning: those of earlier starts first, then live ones.

        Raises FolderInUse where the folder holds another job's spec, TrainingFailed where training gave up, ProgramFailed where
        the program died without saying why.
        """
        run_dir = self.folder(job_id)
        _claim(run_dir, spec)
        earlier, offset = _read_from(run_dir / "events.jsonl", 0)
        last: TrainEvent | None = None
        for last in earlier:
            yield last
        if isinstance(last, Finished):  # nothing to do: a program need not be started to find that out
            return
        last = None  # how an earlier start ended says nothing about this one
        child = process.start("feinschliff.train", [str(run_dir)], run_dir / "log.txt")
        try:
            while True:
                alive = child.poll() is None  # asked before reading, so that nothing written before the end is missed
                events, offset = _read_from(run_dir / "events.jsonl", offset)
                for last in events:
                    yield last
                if not alive:
                    break
                await asyncio.sleep(POLL_S)
        finally:
            process.stop(child)
        _judge(child, last, run_dir)


def _claim(run_dir: Path, spec: TrainSpec) -> None:
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


def _judge(child: "subprocess.Popen[str]", last: TrainEvent | None, run_dir: Path) -> None:
    if isinstance(last, Finished):
        return
    if isinstance(last, Failed):
        raise TrainingFailed(f"Training failed: {last.message}", hint=last.hint)
    code = child.returncode
    why = "It was killed; if that was for memory, lower batch_size or use LoRA. " if code < 0 else ""
    raise ProgramFailed(
        f"Training ended with code {code} and no result. {why}\n{process.last_lines(run_dir / 'log.txt')}",
        hint=f"Run the same command again to go on from the last saved step; the whole log is {run_dir / 'log.txt'}.",
    )

"""`events.jsonl`: append-only, one event a line, readable at any moment by offset."""
from pathlib import Path

from feinschliff.core.jobs import TRAIN_EVENT, TrainEvent


class EventLog:
    """Appends events; a line torn by a kill is cut off on opening, whole lines are never touched.

    Where several processes make one run, one of them writes and the others (`writes=False`) only read.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self._path = path
        self._writes = writes
        if writes and path.exists():
            content = path.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                with path.open("r+b") as file:
                    file.truncate(whole)

    def append(self, event: TrainEvent) -> None:
        if not self._writes:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(event.model_dump_json() + "\n")

    def read(self) -> list[TrainEvent]:
        """All events so far; an interrupted step may stand twice, the later one counts."""
        if not self._path.exists():
            return []
        return [TRAIN_EVENT.validate_json(line) for line in self._path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]

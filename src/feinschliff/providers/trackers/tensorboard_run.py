"""TensorBoard: event files, written and read by its own library."""
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from feinschliff.core.ports import Outcome, TrackedRun, TrackedStep

STATUS = "status"


class TensorboardTracker:
    """Every `begin` opens a further file in `folder`; TensorBoard reads them as one run."""

    def __init__(self, run: TrackedRun, folder: Path) -> None:
        self._run = run
        self._folder = folder
        self._writer: Any = None  # tensorboard has no types
        self._ended = False

    def begin(self) -> int:
        from tensorboard.plugins.text.summary_v2 import text_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        events = list(_events(self._folder))
        self._ended = any(tag == STATUS for _, tag in events)
        while any(self._folder.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
            time.sleep(0.05)  # files are read in the order of their names, which begin with the second
        self._writer = EventFileWriter(str(self._folder))
        if not any(tag == "config" for _, tag in events):
            table = "|setting|value|\n|---|---|\n" + "\n".join(f"|{name}|{value}|" for name, value in self._run.config.items())
            self._add([text_pb("config", table)], step=0)
        return max((step for step, tag in events if tag == "train_loss"), default=0)

    def log(self, steps: Sequence[TrackedStep]) -> None:
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        for step in steps:  # one record each: a kill tears all of it, or nothing
            self._add([scalar_pb(name, value) for name, value in step.metrics.items()], step=step.step, at=step.at)
        self._writer.flush()

    def end(self, outcome: Outcome) -> None:
        from tensorboard.plugins.text.summary_v2 import text_pb

        if not self._ended:
            self._add([text_pb(STATUS, f"{outcome.status} {outcome.model or ''}".strip())], step=0)
            self._ended = True
        self.close()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _add(self, summaries: Sequence[Any], *, step: int, at: int | None = None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # pyrefly: ignore[missing-module-attribute]  generated at import
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyrefly: ignore[missing-module-attribute]  generated at import

        values = [value for summary in summaries for value in summary.value]
        self._writer.add_event(Event(summary=Summary(value=values), step=step, wall_time=time.time() if at is None else at))


def _events(folder: Path) -> Iterator[tuple[int, str]]:
    """Step and tag of all that is there; a record that a kill has torn is not."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    for file in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                yield event.step, value.tag

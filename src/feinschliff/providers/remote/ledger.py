"""What remote calls took and cost: one line each, appended to a file per region, read again for the month's budget."""
import fcntl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from feinschliff.catalog.billing import Spent
from feinschliff.core.chat import Wire


class Entry(Wire):
    """A job has several, as it goes on: the last one counts. `money` is None where no price is known."""

    at: float  # Unix seconds
    kind: Literal["answer", "training"]
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    trained_tokens: int = 0  # over all epochs; an estimate until the job has ended
    money: float | None = None
    currency: str = "USD"
    job: str | None = None
    state: str = ""  # of the job
    study: str = ""  # which study asked, and which of its models


@dataclass(frozen=True, slots=True)
class Ledger:
    """`file` need not exist. Several processes may write at once."""

    file: Path
    clock: Callable[[], float] = time.time

    def add(self, entry: Entry) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(entry.model_dump_json() + "\n")

    def entries(self) -> Iterator[Entry]:
        """A last line that a kill cut short is passed over."""
        if not self.file.is_file():
            return
        for line in self.file.read_text(encoding="utf-8").splitlines():
            try:
                yield Entry.model_validate_json(line)
            except ValidationError:
                continue

    def job(self, job: str) -> Entry | None:
        """What is known of it last."""
        return next((e for e in reversed(list(self.entries())) if e.job == job), None)

    def spent(self) -> Spent:
        """In this calendar month (UTC). A job belongs to the month of its first entry; failed ones are not charged."""
        month = datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m")
        answers = 0.0
        first: dict[str, Entry] = {}
        last: dict[str, Entry] = {}
        for entry in self.entries():
            if entry.job is not None:
                first.setdefault(entry.job, entry)
                last[entry.job] = entry
            elif _month(entry) == month:
                answers += entry.money or 0.0
        jobs = [last[job] for job, entry in first.items() if _month(entry) == month and _charged(last[job])]
        return Spent(
            training_tokens=sum(e.trained_tokens for e in jobs), money=answers + sum(e.money or 0.0 for e in jobs), jobs=len(jobs)
        )


def _month(entry: Entry) -> str:
    return datetime.fromtimestamp(entry.at, UTC).strftime("%Y-%m")


def _charged(entry: Entry) -> bool:
    return entry.state != "failed" and (entry.state != "cancelled" or entry.trained_tokens > 0)

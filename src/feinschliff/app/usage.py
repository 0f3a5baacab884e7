"""What models have answered, added up by project, model and day. Counts are written every few seconds, not with every answer."""
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from feinschliff.core.live import Completed
from feinschliff.core.service import ProjectId
from feinschliff.store import model_usage

if TYPE_CHECKING:  # the service holds the counts
    from feinschliff.app.service import Service

Event = TypeVar("Event")
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose question goes to which model."""

    project: ProjectId
    model: str


@dataclass(frozen=True, slots=True)
class Answered:
    """Of one project and model on one day. `prompt_tokens` include those that were known already, `cached_tokens`."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def and_also(self, other: "Answered") -> "Answered":
        return Answered(
            self.requests + other.requests, self.prompt_tokens + other.prompt_tokens, self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
        )  # fmt: skip


class Counts:
    """What has been answered and is not written down yet."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[tuple[Asked, int], Answered] = {}  # by day since 1970, UTC

    def add(self, asked: Asked, day: int, answered: Answered) -> None:
        with self._lock:
            key = (asked, day)
            self._counts[key] = self._counts.get(key, Answered()).and_also(answered)

    def take(self) -> dict[tuple[Asked, int], Answered]:
        with self._lock:
            taken = dict(self._counts)
            self._counts.clear()
            return taken


def count(service: "Service", asked: Asked, answered: Answered) -> None:
    """Today."""
    service.counts.add(asked, service.clock() // DAY_S, answered)


async def counted(service: "Service", asked: Asked, answers: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """The same events; the answer is counted once it is complete. One that a client breaks off is not."""
    began_s = time.time()
    async with aclosing(answers):
        async for event in answers:
            if isinstance(event, Completed):
                said = {"feinschliff.model": asked.model, "feinschliff.tokens.prompt": event.prompt_tokens, "feinschliff.tokens.completion": event.completion_tokens}
                service.traces.tell("engine answers", began_s, time.time(), said)
                tokens = Answered(1, event.prompt_tokens, event.cached_tokens, event.completion_tokens)
                count(service, asked, tokens)
            yield event


def write_counts(service: "Service") -> bool:
    """False where there are none. What cannot be written is kept for the next time."""
    taken = service.counts.take()
    if not taken:
        return False
    try:
        with service.database.write() as db:
            for (asked, day), answered in taken.items():
                model_usage.add(db, asked.project, asked.model, day, answered)
    except BaseException:
        for (asked, day), answered in taken.items():
            service.counts.add(asked, day, answered)
        raise
    return True

"""Replies and grades of one arm, kept on disk as they come, so that nothing finished is done twice.

The unit of work is a chunk of conversations, always cut in the same places: a reply may depend on its neighbours in a batch
(rounding), so a resumed study must ask in the same batches.
"""
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from feinschliff.app.study_graders import Graders
from feinschliff.core.chat import Conversation, Example
from feinschliff.core.ports import GraderFailure, Reply, Responder, Score
from feinschliff.data.files import write_text
from feinschliff.evals.run import grade_all

CHUNK = 256  # conversations
Outcome = Score | GraderFailure


@dataclass(frozen=True, slots=True)
class _Chunk:
    seconds: float
    replies: tuple[Reply, ...]


_CHUNK = TypeAdapter(_Chunk)
_TIMES = TypeAdapter(list[float])
_OUTCOMES = TypeAdapter(tuple[Outcome, ...])


class ArmFolder:
    """`OUT/arms/<arm>`: one file a chunk of replies, one a timing, one a grader."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def chunk(self, part: str, number: int) -> Path:
        return self._folder / f"{part}-{number:03}.json"

    def read_chunk(self, part: str, number: int) -> tuple[Reply, ...] | None:
        path = self.chunk(part, number)
        return _CHUNK.validate_json(path.read_bytes()).replies if path.is_file() else None

    def is_answered(self, part: str, n: int) -> bool:
        return all(self.chunk(part, k).is_file() for k in range(n_chunks(n)))

    def seconds(self, part: str, n: int) -> float:
        """Time that answering took, over all chunks."""
        return sum(_CHUNK.validate_json(self.chunk(part, k).read_bytes()).seconds for k in range(n_chunks(n)))

    def replies(self, part: str, n: int) -> list[Reply]:
        """All replies, in the order of the examples; every chunk must be there."""
        return [r for k in range(n_chunks(n)) for r in self.read_chunk(part, k) or ()]

    def write_chunk(self, part: str, number: int, replies: Sequence[Reply], seconds: float) -> None:
        write_text(self.chunk(part, number), _CHUNK.dump_json(_Chunk(seconds, tuple(replies))).decode())

    def latencies_ms(self) -> list[float] | None:
        path = self._folder / "latency.json"
        return _TIMES.validate_json(path.read_bytes()) if path.is_file() else None

    async def time_alone(self, responder: Responder, conversations: Sequence[Conversation]) -> None:
        """Ask one at a time and keep the milliseconds; done once."""
        if self.latencies_ms() is not None:
            return
        times = []
        for conversation in conversations:
            (reply,) = await responder([conversation])
            if reply.latency_ms is not None:
                times.append(reply.latency_ms)
        write_text(self._folder / "latency.json", json.dumps(times))

    def graded(self, graders: Graders, name: str, part: str, examples: Sequence[Example]) -> list[Outcome]:
        """Grades of all replies by one grader; kept under a name that changes with the grader, its files and the replies."""
        replies = self.replies(part, len(examples))
        path = self._folder / "grades" / f"{part}-{_slug(name)}-{_grading_key(graders.fingerprint(name), replies)}.json"
        if path.is_file():
            return list(_OUTCOMES.validate_json(path.read_bytes()))
        outcomes = grade_all(graders[name], examples, replies)
        write_text(path, _OUTCOMES.dump_json(tuple(outcomes)).decode())
        return outcomes


def n_chunks(n: int) -> int:
    return -(-n // CHUNK)


def _slug(name: str) -> str:
    """A grader's name, which may hold anything, as part of a file name; the key beside it tells equal ones apart."""
    return re.sub(r"[^\w.-]+", "_", name)[:40]


def _grading_key(grader: str, replies: Sequence[Reply]) -> str:
    digest = hashlib.sha256(grader.encode())
    for reply in replies:
        digest.update(reply.text.encode() + b"\0")
    return digest.hexdigest()[:16]

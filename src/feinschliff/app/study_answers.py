"""Replies and grades of one arm, kept on disk as they come, so that nothing finished is done twice.

The unit of work is a chunk of conversations, always cut in the same places: a reply may depend on its neighbours in a batch
(rounding), so a resumed study must ask in the same batches.
"""
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter

from feinschliff.core.chat import Conversation, Example
from feinschliff.core.ports import GraderFailure, Reply, Responder, Score
from feinschliff.core.study import GraderSpec
from feinschliff.data.files import sha256_of, write_text
from feinschliff.evals.registry import make
from feinschliff.evals.run import grade_all

CHUNK = 256  # conversations
_REPLIES = TypeAdapter(tuple[Reply, ...])
_OUTCOMES = TypeAdapter(tuple[Score | GraderFailure, ...])
Outcome = Score | GraderFailure


class ArmFolder:
    """`OUT/arms/<arm>`: one file a chunk of replies, one a timing, one a grader."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def chunk(self, part: str, number: int) -> Path:
        return self._folder / f"{part}-{number:03}.json"

    def read_chunk(self, part: str, number: int) -> tuple[Reply, ...] | None:
        path = self.chunk(part, number)
        return _REPLIES.validate_json(json.dumps(json.loads(path.read_text(encoding="utf-8"))["replies"])) if path.is_file() else None

    def is_answered(self, part: str, n: int) -> bool:
        return all(self.chunk(part, k).is_file() for k in range(n_chunks(n)))

    def seconds(self, part: str, n: int) -> float:
        """Time that answering took, over all chunks."""
        return sum(json.loads(self.chunk(part, k).read_text(encoding="utf-8"))["seconds"] for k in range(n_chunks(n)))

    def replies(self, part: str, n: int) -> list[Reply]:
        """All replies, in the order of the examples; every chunk must be there."""
        return [r for k in range(n_chunks(n)) for r in self.read_chunk(part, k) or ()]

    def write_chunk(self, part: str, number: int, replies: Sequence[Reply], seconds: float) -> None:
        row = {"seconds": seconds, "replies": [asdict(r) for r in replies]}
        write_text(self.chunk(part, number), json.dumps(row, ensure_ascii=False))

    def latencies_ms(self) -> list[float] | None:
        path = self._folder / "latency.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

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

    def graded(self, spec: GraderSpec, base: Path, part: str, examples: Sequence[Example]) -> list[Outcome]:
        """Grades of all replies by one grader; kept under a name that changes with the grader, its files and the replies."""
        replies = self.replies(part, len(examples))
        key = _grading_key(spec, base, replies)
        path = self._folder / "grades" / f"{part}-{spec.name}-{key}.json"
        if path.is_file():
            return list(_OUTCOMES.validate_json(path.read_bytes()))
        outcomes = grade_all(make(spec, base), examples, replies)
        write_text(path, _OUTCOMES.dump_json(tuple(outcomes)).decode())
        return outcomes


def n_chunks(n: int) -> int:
    return -(-n // CHUNK)


def _grading_key(spec: GraderSpec, base: Path, replies: Sequence[Reply]) -> str:
    digest = hashlib.sha256(spec.model_dump_json().encode())
    for value in spec.options.values():
        file = base / str(value).split(":")[0]
        if isinstance(value, str) and value and file.is_file():
            digest.update(sha256_of(file).encode())
    for reply in replies:
        digest.update(reply.text.encode() + b"\0")
    return digest.hexdigest()[:16]

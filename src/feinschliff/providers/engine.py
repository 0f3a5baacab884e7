"""This machine's answering programs as a Responder and an Embedder."""
import asyncio
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from feinschliff.compute import process
from feinschliff.core.chat import Conversation
from feinschliff.core.engine import (
    RESPONSE,
    Embed,
    Generate,
    Progress,
    Ready,
    Refused,
    Replies,
    Request,
    Response,
    Sampling,
    Vectors,
)  # fmt: skip
from feinschliff.core.errors import FeinschliffError, ProgramFailed
from feinschliff.core.ports import Reply

OnProgress = Callable[[int], None]
EMBED_BATCH = 512  # texts a line


def _silent(done: int) -> None:
    pass


class Program:
    """A running `python -m feinschliff.serve`: one request at a time, in and out over pipes. Close it, or use `with`."""

    def __init__(self, model: Path, log: Path, *, embedding: bool = False) -> None:
        self._log = log
        self._last_id = 0
        self._lock = Lock()
        arguments = [str(model), *(["--embedding"] if embedding else [])]
        self._child: subprocess.Popen[str] = process.start("feinschliff.serve", arguments, log, talk=True)
        try:
            response = self._read()
        except ProgramFailed:
            self.close()
            raise
        if not isinstance(response, Ready):
            self.close()
            raise _error(response)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        process.stop(self._child)

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def ask(self, request: Request, on_progress: OnProgress = _silent) -> Replies | Vectors:
        """Send one request and wait for its answer. Raises what the program refused with, ProgramFailed if it died."""
        with self._lock:
            assert self._child.stdin is not None
            try:
                self._child.stdin.write(request.model_dump_json() + "\n")
                self._child.stdin.flush()
            except BrokenPipeError:
                raise self._died() from None
            while isinstance(response := self._read(), Progress):
                on_progress(response.done)
        if isinstance(response, Replies | Vectors):
            return response
        raise _error(response)

    def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """A vector of unit length for each text. Raises as `ask` does."""
        vectors: list[tuple[float, ...]] = []
        for start in range(0, len(texts), EMBED_BATCH):
            answer = self.ask(Embed(id=self.next_id(), texts=tuple(texts[start : start + EMBED_BATCH])))
            assert isinstance(answer, Vectors)
            vectors += answer.vectors
        return vectors

    def _read(self) -> Response:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise self._died()
        try:
            return RESPONSE.validate_json(line)
        except ValidationError:
            raise ProgramFailed(f"The answering program wrote {line[:80]!r}, which is no answer.", hint=self._hint) from None

    def _died(self) -> ProgramFailed:
        code = self._child.wait()
        killed = " It was killed; if that was for memory, use a smaller model or fewer slots." if code < 0 else ""
        return ProgramFailed(
            f"The answering program ended with code {code}.{killed}\n{process.last_lines(self._log)}",
            hint=self._hint,
        )

    @property
    def _hint(self) -> str:
        return f"Run the same command again to go on after the last finished answers; the whole log is {self._log}."


def _error(response: Response) -> FeinschliffError:
    if isinstance(response, Refused):
        return error_named(response.code, response.message, response.hint)
    return ProgramFailed(f"The answering program said {response.kind!r} out of turn.")


def error_named(code: str, message: str, hint: str) -> FeinschliffError:
    """The error of a code that a program told."""
    kinds: dict[str, type[FeinschliffError]] = {k.code: k for k in _tree(FeinschliffError)}
    kind = kinds.get(code, FeinschliffError)
    error = kind.__new__(kind)
    FeinschliffError.__init__(error, message, hint=hint)
    return error


def _tree(kind: type[FeinschliffError]) -> list[type[FeinschliffError]]:
    return [kind, *(k for child in kind.__subclasses__() for k in _tree(child))]


@dataclass
class LocalResponder:
    """A base model, or one with an adapter, on this machine. A core.ports.Responder."""

    program: Program
    sampling: Sampling
    slots: int
    adapter: Path | None = None
    on_progress: OnProgress = field(default=_silent)

    async def __call__(self, conversations: Sequence[Conversation], /) -> Sequence[Reply]:
        request = Generate(
            id=self.program.next_id(),
            conversations=tuple(conversations),
            adapter=None if self.adapter is None else str(self.adapter),
            sampling=self.sampling,
            slots=self.slots,
        )
        answer = await asyncio.to_thread(self.program.ask, request, self.on_progress)
        assert isinstance(answer, Replies)
        alone = answer.seconds * 1000 if len(conversations) == 1 else None
        return [
            Reply(r.text, r.input_tokens, r.output_tokens, r.finish_reason, latency_ms=alone) for r in answer.replies
        ]


@dataclass(frozen=True)
class LocalEmbedder:
    """A core.ports.Embedder. It remembers whole calls: arms ask for the same questions again, and a vector's last bits may
    depend on the texts beside it, so the same call must give the same answer.
    """

    program: Program
    _known: dict[tuple[str, ...], NDArray[np.float32]] = field(default_factory=dict)

    def __call__(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        key = tuple(texts)
        if not key:
            return np.zeros((0, 0), dtype=np.float32)
        if key not in self._known:
            self._known[key] = np.asarray(self.program.embed(key), dtype=np.float32)
        return self._known[key]

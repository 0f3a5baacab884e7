"""A running program that speaks core.live, our engine or vLLM, spoken to from asyncio: many requests over two pipes."""
import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from feinschliff.compute import process
from feinschliff.core.errors import FeinschliffError, Overloaded, ProgramFailed
from feinschliff.core.live import (
    LIVE_EVENT,
    AskStats,
    Cancel,
    Completed,
    Declined,
    Ended,
    Limits,
    LiveEvent,
    LiveReady,
    LiveRequest,
    Piece,
    Stats,
    Submit,
)  # fmt: skip
from feinschliff.providers.engine import error_named

LINE = 1 << 26  # bytes; an echoed prompt with the log-probabilities of all its tokens is one line
GRACE_S = 10.0
Answer = Piece | Ended | Completed


@dataclass(frozen=True, slots=True)
class EngineProgram:
    """`python -m module MODEL arguments…`: any program that speaks core.live. One that `fills_device` leaves no memory there for another."""

    name: str  # for people
    module: str
    arguments: tuple[str, ...] = ()
    fills_device: bool = False


OURS = EngineProgram("feinschliff", "feinschliff.serve", ("--live",))


class LiveProgram:
    """Make one with `start`. It is good until `dead`; then start another one."""

    def __init__(self, child: Process, log: Path) -> None:
        self._child, self._log = child, log
        self._waiting: dict[str, asyncio.Queue[LiveEvent | None]] = {}  # None: the program has ended
        self._reader: asyncio.Task[None] | None = None
        self.ready: LiveReady | None = None

    @classmethod
    async def start(cls, model: Path, log: Path, limits: Limits, engine: EngineProgram = OURS) -> "LiveProgram":
        """Raises what the program refuses to load the model with, or ProgramFailed."""
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", engine.module, str(model), *engine.arguments, "--limits", limits.model_dump_json()]
        with log.open("ab") as errors:
            child = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, stderr=errors, env=process.environment(), start_new_session=True, limit=LINE
            )
        program = cls(child, log)
        try:
            first = await program._read()
            if isinstance(first, Declined):
                raise error_named(first.code, first.message, first.hint)
            if not isinstance(first, LiveReady):
                raise program._died()
        except BaseException:
            await program.close()
            raise
        program.ready = first
        program._reader = asyncio.create_task(program._listen())
        return program

    @property
    def dead(self) -> bool:
        return self._child.returncode is not None or self._reader is None or self._reader.done()

    @property
    def busy(self) -> bool:
        """Whether a request is under way."""
        return bool(self._waiting)

    async def answers(self, request: Submit) -> AsyncGenerator[Answer, None]:
        """Pieces of the answer as they come, `Completed` last. Whoever stops listening stops the work.

        Raises what the engine declines with, ProgramFailed where it dies.
        """
        async with contextlib.aclosing(self._ask(request.id, request)) as events:
            async for event in events:
                match event:
                    case Completed():
                        yield event
                        return
                    case Piece() | Ended():
                        yield event
                    case Declined():
                        raise _declined(event)
                    case _:
                        raise ProgramFailed(f"The answering program said {event.kind!r} out of turn.")

    async def stats(self, name: str) -> Stats:
        """`name` is that of no other request under way."""
        async with contextlib.aclosing(self._ask(name, AskStats(id=name))) as events:
            async for event in events:
                if isinstance(event, Stats):
                    return event
        raise self._died()

    async def close(self) -> None:
        """End the program: by closing its stdin, then by force."""
        if self._child.stdin is not None:
            self._child.stdin.close()
        try:
            await asyncio.wait_for(self._child.wait(), GRACE_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()
            await self._child.wait()
        if self._reader is not None:
            await self._reader

    async def _ask(self, name: str, request: LiveRequest) -> AsyncGenerator[LiveEvent, None]:
        """What is said about a request, until nobody listens any more."""
        if self.dead:
            raise self._died()
        heard: asyncio.Queue[LiveEvent | None] = asyncio.Queue()
        self._waiting[name] = heard
        last: LiveEvent | None = None
        try:
            await self._say(request)
            while True:
                last = await heard.get()
                if last is None:
                    raise self._died()
                yield last
        finally:
            del self._waiting[name]
            if isinstance(request, Submit) and not isinstance(last, Completed | Declined) and not self.dead:
                self._write(Cancel(id=name))

    async def _listen(self) -> None:
        with contextlib.suppress(ProgramFailed):
            while True:
                event = await self._read()
                if not isinstance(event, LiveReady) and event.id in self._waiting:
                    self._waiting[event.id].put_nowait(event)
        await self._child.wait()
        for heard in self._waiting.values():
            heard.put_nowait(None)

    async def _read(self) -> LiveEvent:
        """Raises ProgramFailed at the end, and for anything that is no event."""
        assert self._child.stdout is not None
        line = await self._child.stdout.readline()
        try:
            return LIVE_EVENT.validate_json(line)
        except ValidationError:
            if not line:
                await self._child.wait()
                raise self._died() from None
            raise ProgramFailed(f"The answering program wrote {line[:80]!r}, which is no event.") from None

    async def _say(self, request: LiveRequest) -> None:
        self._write(request)
        assert self._child.stdin is not None
        with contextlib.suppress(ConnectionError):  # its end is heard of by the reader
            await self._child.stdin.drain()

    def _write(self, request: LiveRequest) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(request.model_dump_json(by_alias=True).encode() + b"\n")

    def _died(self) -> ProgramFailed:
        code = self._child.returncode
        killed = " It was killed; if that was for memory, use a smaller model." if code is not None and code < 0 else ""
        return ProgramFailed(
            f"The answering program ended with code {code}.{killed}\n{process.last_lines(self._log)}",
            hint=f"Ask again: it is started anew. Its log is {self._log}.",
        )


def _declined(event: Declined) -> FeinschliffError:
    if event.retry_after_s is not None:
        return Overloaded(event.message, hint=event.hint, retry_after_s=event.retry_after_s)
    return error_named(event.code, event.message, event.hint)

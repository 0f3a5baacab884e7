"""Base models that answer on this machine: one live engine each, started when first asked, ended when idle or in the way."""
import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from feinschliff.core.errors import Overloaded, ProgramFailed
from feinschliff.core.live import Limits, Submit
from feinschliff.providers.live_program import OURS, Answer, EngineProgram, LiveProgram

GIBI = 1 << 30
LOADING_S = 10.0  # how long another model's loading keeps those waiting who find no memory


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of all engines together: `memory_bytes` of weights, caches and slots; `idle_s` until one that nobody asks is ended."""

    memory_bytes: int = 16 * GIBI
    idle_s: float = 900.0
    each: Limits = field(default_factory=Limits)


@dataclass(slots=True)
class _Engine:
    """A base model's engine, or the place for one. The lock is held while it starts or ends."""

    n_bytes: int
    program: LiveProgram | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    used_at: float = 0.0

    @property
    def running(self) -> bool:
        return self.program is not None and not self.program.dead


class LiveModels:
    """The engines of this process. Use it on one event loop, and `close` it there."""

    def __init__(
        self, logs: Path, bounds: Bounds | None = None, clock_s: Callable[[], float] = time.monotonic, program: EngineProgram = OURS
    ) -> None:
        self._logs, self._bounds, self._clock_s = logs, bounds or Bounds(), clock_s
        self.program = program
        self._engines: dict[Path, _Engine] = {}

    @property
    def loaded(self) -> list[Path]:
        """The base models whose engines run."""
        return [base for base, engine in self._engines.items() if engine.running]

    @property
    def load(self) -> dict[str, tuple[int, int]]:
        """Of every engine that runs, by the name of its folder: requests under way, and sequences computed together."""
        return {base.name: (e.users, self._bounds.each.slots) for base, e in list(self._engines.items()) if e.running}

    async def answers(self, base: Path, request: Submit) -> AsyncGenerator[Answer, None]:
        """Ask a base model's engine, which is started where it does not run. The request's `adapter` is attached there.

        Raises Overloaded where the queue is full or no memory can be had now, ModelUnavailable for what is no model, and
        ProgramFailed where the engine dies; one that had died before is started anew.
        """
        engine = self._engines.setdefault(base, _Engine(self._estimate(base)))
        engine.users += 1
        try:
            program = await self._running(base, engine)
            async with contextlib.aclosing(program.answers(request)) as answers:
                async for answer in answers:
                    yield answer
        finally:
            engine.users -= 1
            engine.used_at = self._clock_s()

    async def rest(self) -> None:
        """End the engines that have been idle for long; to be called now and then."""
        for engine in list(self._engines.values()):
            if engine.running and not engine.users and self._clock_s() - engine.used_at > self._bounds.idle_s:
                await _end(engine)

    async def close(self) -> None:
        """End all engines."""
        await asyncio.gather(*(_end(engine) for engine in self._engines.values()))

    async def _running(self, base: Path, engine: _Engine) -> LiveProgram:
        async with engine.lock:
            if not engine.running:
                if engine.program is not None:
                    await engine.program.close()
                    engine.program = None
                await self._make_room(engine)
                engine.program = await LiveProgram.start(base, self._logs / f"answering-{base.name}.log", self._bounds.each, self.program)
            program = engine.program
            if program is None:
                raise ProgramFailed("The answering program did not start.")
            return program

    async def _make_room(self, wanted: _Engine) -> None:
        """End idle engines, the longest unused first, until one more fits. A lone engine always may."""
        while True:
            others = [e for e in self._engines.values() if e is not wanted and (e.running or e.lock.locked())]
            if not others or sum(e.n_bytes for e in others) + wanted.n_bytes <= self._bounds.memory_bytes:
                return
            idle = [e for e in others if not e.users and e.running]
            if not idle:
                raise Overloaded("The memory for models is used up by others that are answering.", retry_after_s=LOADING_S)
            await _end(min(idle, key=lambda e: e.used_at))

    def _estimate(self, base: Path) -> int:
        """Bytes an engine takes at most: its weights as they are stored, twice while they are laid out, and its bounds; or everything."""
        if self.program.fills_device:
            return self._bounds.memory_bytes
        weights = sum(file.stat().st_size for file in base.glob("*.safetensors"))
        return 2 * weights + self._bounds.each.cache_bytes + self._bounds.each.slots_bytes


async def _end(engine: _Engine) -> None:
    async with engine.lock:
        if engine.program is not None:
            program, engine.program = engine.program, None
            await program.close()

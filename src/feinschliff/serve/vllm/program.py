"""The process around vLLM: lines in, a task for each request, lines out. It has vLLM's server as its child."""
import asyncio
import sys
import traceback
from asyncio import Queue, Task
from dataclasses import replace
from pathlib import Path

import httpx2
from pydantic import ValidationError

from feinschliff.core.errors import BadData, FeinschliffError, Overloaded, ProgramFailed
from feinschliff.core.live import (
    LIVE_REQUEST,
    AskStats,
    Cancel,
    Declined,
    Limits,
    LiveEvent,
    Submit,
)
from feinschliff.serve.vllm.engine import VllmEngine, prompts_of
from feinschliff.serve.vllm.server import Vllm, VllmServer

LINE = 1 << 26  # bytes
Inbox = Queue[bytes]


async def run(folder: Path, limits: Limits, vllm: Vllm) -> int:
    """Serve until stdin ends, which may be while vLLM still loads, or until vLLM does. Returns the exit code."""
    inbox: Inbox = Queue()
    reading = asyncio.create_task(_read(inbox))
    serving = asyncio.create_task(_serve(folder, limits, vllm, inbox))
    await asyncio.wait({reading, serving}, return_when=asyncio.FIRST_COMPLETED)
    reading.cancel()
    if serving.done():
        return serving.result()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    return 0


def say(event: LiveEvent) -> None:
    sys.stdout.write(event.model_dump_json() + "\n")
    sys.stdout.flush()


async def _read(inbox: Inbox) -> None:
    stdin = asyncio.StreamReader(limit=LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while line := await stdin.readline():
        inbox.put_nowait(line)


async def _serve(folder: Path, limits: Limits, vllm: Vllm, inbox: Inbox) -> int:
    try:
        prompts = prompts_of(folder)  # first: what is no model is told at once
        async with VllmServer.running(vllm, folder, limits) as server:
            context = min(prompts.max_tokens, await server.max_tokens() or prompts.max_tokens)
            engine = VllmEngine(folder, replace(prompts, max_tokens=context), server, say, limits)
            say(engine.ready())
            taking = asyncio.create_task(Desk(engine).take(inbox))
            code = await server.ended()
            taking.cancel()
            sys.stderr.write(f"vLLM ended with code {code}.\n")  # the last line of the log is what people are told
            return 1
    except FeinschliffError as error:
        say(_declined("", error))
        return 1


class Desk:
    """Whose requests are under way."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine
        self._tasks: dict[str, Task[None]] = {}

    async def take(self, inbox: Inbox) -> None:
        """Requests as they come, for ever."""
        while True:
            try:
                message = LIVE_REQUEST.validate_json(await inbox.get())
            except ValidationError as error:
                say(Declined(id="", code="bad_request", message=str(error)))
                continue
            if isinstance(message, Cancel):
                if task := self._tasks.pop(message.id, None):
                    task.cancel()
            elif message.id in self._tasks:
                say(_declined(message.id, BadData(f"A request named {message.id} is being answered already.", hint="Use another name.")))
            else:
                self._tasks[message.id] = asyncio.create_task(self._answer(message))

    async def _answer(self, message: Submit | AskStats) -> None:
        try:
            if isinstance(message, AskStats):
                say(await self._engine.stats(message.id))
            else:
                await self._engine.answer(message)
        except FeinschliffError as error:
            say(_declined(message.id, error))
        except (httpx2.HTTPError, ValidationError) as error:  # vLLM has gone, or says what no version known here does
            say(_declined(message.id, ProgramFailed(f"vLLM's answer broke off: {error!r}.", hint="Ask again; its log says more.")))
        except Exception as error:  # noqa: BLE001  the boundary of a request: whoever asked would wait for ever
            traceback.print_exception(error)
            say(_declined(message.id, ProgramFailed(f"The request could not be answered: {type(error).__name__}: {error}.", hint="The engine's log says more.")))
        finally:
            if self._tasks.get(message.id) is asyncio.current_task():
                del self._tasks[message.id]


def _declined(request_id: str, error: FeinschliffError) -> Declined:
    retry_after_s = error.retry_after_s if isinstance(error, Overloaded) else None
    return Declined(id=request_id, code=error.code, message=error.message, hint=error.hint, retry_after_s=retry_after_s)

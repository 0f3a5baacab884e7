"""The process around the live engine: lines in on one thread, forward passes and lines out on the other."""
import queue
import sys
import threading
from pathlib import Path
from typing import TextIO, assert_never

from pydantic import ValidationError

from feinschliff.core.errors import FeinschliffError
from feinschliff.core.live import (
    LIVE_REQUEST,
    AskStats,
    Cancel,
    Declined,
    Limits,
    LiveEvent,
    LiveRequest,
    Submit,
)
from feinschliff.serve.live.engine import LiveEngine

REST_AFTER_S = 30.0  # without requests
Inbox = queue.SimpleQueue[LiveRequest | Declined | None]  # Declined: an unreadable line; None: stdin has ended


def run(folder: Path, limits: Limits) -> int:
    """Serve until stdin ends, so that the program cannot outlive its parent. Returns the exit code."""
    out = _Lines(sys.stdout)
    try:
        engine = LiveEngine(folder, out.say, limits=limits)
    except FeinschliffError as error:
        out.say(Declined(id="", code=error.code, message=error.message, hint=error.hint))
        out.flush()
        return 1
    out.say(engine.ready())
    out.flush()
    inbox: Inbox = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin, inbox), daemon=True).start()
    busy = False
    while True:
        while not busy or not inbox.empty():
            message = _next(inbox, engine)
            if message is None:
                return 0
            _take(engine, message, out)
            busy = True
        busy = engine.step()
        out.flush()


def _next(inbox: Inbox, engine: LiveEngine) -> LiveRequest | Declined | None:
    try:
        return inbox.get(timeout=REST_AFTER_S)
    except queue.Empty:
        engine.rest()
        return inbox.get()


class _Lines:
    """Events are written together, once a step: one system call instead of one an event."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._said: list[str] = []

    def say(self, event: LiveEvent) -> None:
        self._said.append(event.model_dump_json() + "\n")

    def flush(self) -> None:
        if self._said:
            self._file.write("".join(self._said))
            self._file.flush()
            self._said.clear()


def _read(file: TextIO, inbox: Inbox) -> None:
    for line in file:
        try:
            inbox.put(LIVE_REQUEST.validate_json(line))
        except ValidationError as error:
            inbox.put(Declined(id="", code="bad_request", message=str(error)))
    inbox.put(None)


def _take(engine: LiveEngine, message: LiveRequest | Declined, out: _Lines) -> None:
    match message:
        case Submit():
            engine.submit(message)
        case Cancel():
            engine.cancel(message.id)
        case AskStats():
            out.say(engine.stats(message.id))
        case Declined():
            out.say(message)
        case _:
            assert_never(message)

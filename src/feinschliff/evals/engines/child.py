"""One engine in a process of its own: asked over a pipe, gone when it hangs, started again for the next question."""

import json
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

from feinschliff.evals.engines.rows import Refused, Rows


class EngineBroken(Exception):
    """The engine cannot be opened or died; the query is not to blame (or cannot be blamed for certain)."""


class Child:
    """A lazily started `feinschliff.evals.engines.program`. For one thread; closed by `close` or with its last reference."""

    def __init__(self, kind: str, database: Path, *, max_rows: int, timeout_s: float) -> None:
        self._arguments = ["run", kind, str(database), str(max_rows), str(timeout_s)]
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[str] | None = None
        self._finalizer: Callable[[], object] | None = None

    def ask(self, query: str) -> Rows | Refused:
        """The query's rows, or why there are none. Raises EngineBroken."""
        process = self._process or self._start()
        answer = _exchange(process, json.dumps(query))
        if answer is None:
            code = process.wait()
            self.close()
            if code == -signal.SIGALRM:
                return Refused(f"took longer than {self._timeout_s:g} s")
            raise EngineBroken(f"the engine ended with code {code}")
        if "rows" in answer:
            return Rows(answer["rows"])
        return Refused(str(answer["refused"]))

    def close(self) -> None:
        if self._finalizer:
            self._finalizer()
        self._process = self._finalizer = None

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "feinschliff.evals.engines.program", *self._arguments]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        self._process, self._finalizer = process, weakref.finalize(self, _end, process)
        hello = _exchange(process, None)
        if hello is None or "broken" in hello:
            why = hello["broken"] if hello else f"the engine ended with code {process.wait()}"
            self.close()
            raise EngineBroken(str(why))
        return process


def _exchange(process: subprocess.Popen[str], line: str | None) -> dict[str, list[list[None]]] | None:
    """The child's next answer (after sending it `line`); None where it is gone."""
    if process.stdin is None or process.stdout is None:
        raise AssertionError("started with pipes")
    try:
        if line is not None:
            process.stdin.write(line + "\n")
            process.stdin.flush()
        answer = process.stdout.readline()
    except BrokenPipeError:
        return None
    return json.loads(answer) if answer.endswith("\n") else None


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            try:
                pipe.close()
            except BrokenPipeError:  # a line was still buffered for a child that is gone
                continue

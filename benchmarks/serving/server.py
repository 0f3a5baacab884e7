"""A server under measurement: started in a session of its own, waited for, given the processor alone while it is timed."""
import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import children
import httpx2
import psutil
from environments import Unavailable
from systems import KEY, Start

READY_IN_S = 540.0
PRIORITY = 10  # real time, as with chrt -r 10
PATIENCE_S = 30.0


class Server:
    """Leave its `with` block and it is ended, with all that it has started."""

    def __init__(self, start: Start, port: int, log: Path) -> None:
        self.url, self._log = f"http://127.0.0.1:{port}", log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as out:
            self._child = subprocess.Popen(
                start.command, env=start.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                cwd=log.parent,
            )  # fmt: skip
        try:
            self._wait(start.ready)
        except BaseException:
            self.end()
            raise

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *why: object) -> None:
        self.end()

    def _wait(self, path: str) -> None:
        """Raises Unavailable where it ends or takes too long."""
        began = time.monotonic()
        while time.monotonic() - began < READY_IN_S:
            if self._child.poll() is not None:
                raise Unavailable(f"ended with code {self._child.returncode}: {children.last_lines(self._log, 3)}")
            with contextlib.suppress(httpx2.HTTPError):
                if httpx2.get(self.url + path, headers={"authorization": f"Bearer {KEY}"}, timeout=10, trust_env=False).status_code == 200:
                    return
            time.sleep(0.5)
        raise Unavailable(f"was not ready after {READY_IN_S:.0f} s: {children.last_lines(self._log, 3)}")

    def family(self) -> list[psutil.Process]:
        """The server and what it has started."""
        root = psutil.Process(self._child.pid)
        return [root, *root.children(recursive=True)]

    def memory_bytes(self) -> int:
        """Proportional set size: what is shared between its processes counts once."""
        return sum(p.memory_full_info().pss for p in self.family())

    def end(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(20)


@contextlib.contextmanager
def alone(lock: Path | None) -> Iterator[None]:
    """With a lock: hold it, and run at real-time priority with all we started or start, where others use the machine.

    Others of that priority that take no lock are waited for, up to PATIENCE_S; who then still ran is in `company`.
    """
    if lock is None:
        yield
        return
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        began = time.monotonic()
        while _others() and time.monotonic() - began < PATIENCE_S:
            time.sleep(0.5)
        _schedule(os.SCHED_RR, PRIORITY)
        try:
            company.update(_others())
            yield
        finally:
            company.update(_others())
            _schedule(os.SCHED_OTHER, 0)


company: set[str] = set()  # programs that ran at real-time priority beside a measurement


def _others() -> set[str]:
    ours = {p.pid for p in (psutil.Process(), *psutil.Process().children(recursive=True))}
    found = set[str]()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            words = process.cmdline()
            if words and process.pid not in ours and os.sched_getscheduler(process.pid) in (os.SCHED_RR, os.SCHED_FIFO):
                found.add(" ".join(words)[:100])
    return found


def _schedule(policy: int, priority: int) -> None:
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{process.pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    os.sched_setscheduler(int(thread.name), policy, os.sched_param(priority))


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])

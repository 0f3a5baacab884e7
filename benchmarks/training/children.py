"""Child processes that are measured: waited for one at a time, with their peak memory."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Ended:
    """`code` is negative for a signal; `peak_rss_bytes` includes what the child had started and waited for."""

    code: int
    peak_rss_bytes: int
    wall_s: float


def wait(child: "subprocess.Popen[str]", limit_s: float) -> Ended:
    """Wait for the leader of a process group; the group is killed after `limit_s`, and when the wait is interrupted or ended."""
    started = time.monotonic()
    killed = False
    before = signal.signal(signal.SIGTERM, _end)
    try:
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                child.returncode = os.waitstatus_to_exitcode(status)
                return Ended(child.returncode, usage.ru_maxrss * 1024, time.monotonic() - started)
            if not killed and time.monotonic() - started > limit_s:
                killed = True
                _kill(child)
            time.sleep(POLL_S)
    except BaseException:
        _kill(child)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """A terminated benchmark leaves no child behind."""
    del frame
    raise SystemExit(128 + number)


def _kill(child: "subprocess.Popen[str]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def run_script(
    python: Path, script: Path, job: Mapping[str, object], folder: Path, environment: Mapping[str, str], limit_s: float
) -> Ended:
    """Run `script` with `job` as its JSON file in a fresh `folder`, its output in folder/log.txt."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    file = folder / "job.json"
    file.write_text(json.dumps(job, indent=1), encoding="utf-8")
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        child = subprocess.Popen(
            [str(python), str(script), str(file)], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env=dict(environment), cwd=folder, start_new_session=True, text=True,
        )  # fmt: skip
        return wait(child, limit_s)


def last_lines(log: Path, n: int = 2) -> str:
    """What a failed program said last."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-n:]) or "no output"

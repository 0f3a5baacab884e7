"""Start one of our programs as a child process of this machine."""
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

TRAIN = "feinschliff.train"
KEPT_SHAPES = "128"
MEMORY = {
    # What a step frees is what the next step needs: keep it, in huge pages, instead of faulting it in anew (docs/log.md).
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=1099511627776",
    # oneDNN and torch beside it keep what they made for a product of certain sizes, by default for 1,024 of them. Steps differ in their
    # lengths, so that would be half a gigabyte and more after some dozens of steps. A step of a model has about 30 kinds of products.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": KEPT_SHAPES,
    "LRU_CACHE_CAPACITY": KEPT_SHAPES,
}
UNREACHABLE = 75  # sysexits' EX_TEMPFAIL: a program's place does not answer; later it may
PR_SET_PDEATHSIG = 1  # prctl(2)


class Here:
    """This machine. Satisfies core.ports.Compute."""

    def start(self, name: str, module: str, arguments: Sequence[str], log: Path) -> "subprocess.Popen[str]":
        """Nothing here needs the name: a program's own lock knows its folder."""
        return start(module, arguments, log)


def start(
    module: str, arguments: Sequence[str], log: Path, *, talk: bool = False, dies_with_parent: bool = False
) -> "subprocess.Popen[str]":
    """`python -m module arguments…` in a session of its own, its stderr appended to `log`.

    With `talk`, stdin and stdout are pipes of text lines; without, both are closed. The child reaches no model hub:
    whatever it needs has been brought by now. With `dies_with_parent` (Linux) it is asked to end when the thread that started it has.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    pipe = subprocess.PIPE if talk else subprocess.DEVNULL
    with log.open("a", encoding="utf-8") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=pipe, stdout=pipe, stderr=errors, text=True, encoding="utf-8",
            env=environment(), start_new_session=True, preexec_fn=_die_with_parent if dies_with_parent else None,
        )  # fmt: skip


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def environment() -> dict[str, str]:
    """What our programs are started with. They reach no model hub: whatever they need has been brought by then."""
    return MEMORY | os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}


def stop(process: "subprocess.Popen[str]", grace_s: float = 5.0) -> None:
    """End a child: by closing its stdin, then by asking, then by force."""
    pipes: list[IO[str] | None] = [process.stdin, process.stdout]
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    elif process.poll() is None:
        process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in pipes:
        if pipe is not None and not pipe.closed:
            pipe.close()


def last_lines(log: Path, n: int = 1) -> str:
    """The end of a child's log, for an error message; of a traceback, the last line says what happened."""
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-n:])
    except OSError:
        return ""

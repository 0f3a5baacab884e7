"""PROGRAM  python -m feinschliff.evals.sandbox.program MEMORY_BYTES

Reads the source as the first line (a JSON string), then one {"sample", "item"} a line, and answers each with one JSON line:
{"score": number} | {"error": why}. The first answer is {"ready": is the kernel's guard on}. What the source prints goes nowhere.
"""
import json
import math
import os
import resource
import sys
import traceback
from collections.abc import Callable
from typing import TextIO, cast

from feinschliff.evals.sandbox.guard import shut


def main(arguments: list[str]) -> int:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    source = json.loads(sys.stdin.readline())
    guarded = shut()
    _limit(int(arguments[0]))
    space: dict[str, object] = {"__name__": "grader"}
    try:
        exec(compile(source, "grader", "exec"), space)
        grade = space["grade"]
    except BaseException as error:  # noqa: BLE001  the client's own code: it may raise anything
        _answer(answers, {"error": _last_line(error)})
        return 1
    _answer(answers, {"ready": guarded})
    for line in sys.stdin:
        _answer(answers, _graded(cast("Callable[[object, object], object]", grade), json.loads(line)))
    return 0


def _graded(grade: Callable[[object, object], object], asked: dict[str, object]) -> dict[str, object]:
    try:
        score = grade(asked["sample"], asked["item"])
    except BaseException as error:  # noqa: BLE001  see above
        return {"error": _last_line(error)}
    if not isinstance(score, int | float) or not math.isfinite(score):
        return {"error": f"grade gave {str(score)[:200]!r}, which is no number"}
    return {"score": float(score)}


def _last_line(error: BaseException) -> str:
    """With the line of the client's own code that raised it."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "grader"]
    place = f" (line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {str(error)[:500]}{place}"


def _answer(to: TextIO, answer: dict[str, object]) -> None:
    to.write(json.dumps(answer) + "\n")
    to.flush()


def _limit(memory_bytes: int) -> None:
    """No file, no dump, few handles, and so much memory at most."""
    for what, most in (
        (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_NPROC, 0),
    ):  # fmt: skip
        resource.setrlimit(what, (most, most))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A grader's source in a sandboxed process: asked over a pipe, killed when it takes too long, started again for the next question."""
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from feinschliff.evals.criteria.failed import NotGraded

MEMORY_BYTES = 1 << 30
LONGEST_ANSWER = 1 << 16  # characters
PASSED_ON = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH")  # no keys, no addresses


class Sandbox:
    """One source. Blocks: call it from a thread; threads take turns. Closed by `close`."""

    def __init__(self, source: str, *, timeout_s: float, memory_bytes: int = MEMORY_BYTES) -> None:
        self._source, self._timeout_s, self._memory_bytes = source, timeout_s, memory_bytes
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def __call__(self, sample: Mapping[str, Any], item: Mapping[str, Any]) -> float:
        """What `grade(sample, item)` gives. Raises NotGraded."""
        with self._lock:
            if self._closed:
                raise NotGraded("python_grader_server_error", "The grading was stopped.")
            if self._process is None:
                self._start()
            answer = self._asked({"sample": sample, "item": item})
        if "score" in answer:
            return float(answer["score"])
        raise NotGraded("python_grader_runtime_error", str(answer.get("error", "it gave no score")))

    def close(self) -> None:
        """For good. Whoever waits for a score has none."""
        self._closed, process = True, self._process
        if process is not None:
            process.kill()
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except BrokenPipeError:  # a line was still buffered for a child that is gone
                        continue

    def _start(self) -> None:
        few = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "feinschliff.evals.sandbox.program", str(self._memory_bytes)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8", env=few, start_new_session=True,
        )  # fmt: skip
        first = self._asked(self._source)
        if "ready" not in first:
            self._drop()
            raise NotGraded("python_grader_runtime_error", str(first.get("error", "the source could not be run")))

    def _asked(self, question: object) -> dict[str, Any]:
        """The child's answer. Raises NotGraded where it takes too long or dies."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise AssertionError("started with pipes")
        late = threading.Event()

        def kill() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._timeout_s, kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            line = process.stdout.readline(LONGEST_ANSWER)
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if isinstance(answer, dict):
            return answer
        self._drop()
        why = f"took longer than {self._timeout_s:g} s" if late.is_set() else "its process ended, perhaps for lack of memory"
        raise NotGraded("python_grader_runtime_error", f"The grader {why}.")

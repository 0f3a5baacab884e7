"""A user's own function as a grader."""

import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from feinschliff.core.chat import Example
from feinschliff.core.errors import BadStudy
from feinschliff.core.ports import GraderFailure, Reply, Score

Judge = Callable[[dict[str, object], str], object]


@dataclass(frozen=True)
class Python:
    """Scores with `function`, "path/to/file.py:name", called with the example (a dict: messages, tools, meta, line) and the reply's text.

    It returns a bool, a number in [0, 1], or a dict with `score` and, if it likes, `why` and `label`. What it raises, and
    anything else that it returns, is a failure of the grader. `binary = true` promises scores of 0 and 1 only.
    """

    function: str
    binary: bool = False
    base: Path = field(default=Path(), repr=False)

    def __post_init__(self) -> None:
        _ = self._judge  # a wrong path is said when the study is read

    @cached_property
    def _judge(self) -> Judge:
        path, _, name = self.function.rpartition(":")
        file = self.base / path
        if not path or not file.is_file():
            raise ValueError(
                f"function {self.function!r}: write it as path/to/file.py:name; there is no file {file}"
            )
        spec = importlib.util.spec_from_file_location(f"feinschliff_user_{file.stem}", file)
        if spec is None or spec.loader is None:
            raise ValueError(f"{file} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # the user's own code: it may raise anything
            raise BadStudy(
                f"{file} cannot be imported: {type(error).__name__}: {error}", hint=f"Try: python {file}"
            ) from error
        found: object = getattr(module, name, None)
        if not callable(found):
            raise ValueError(f"{file} has no function {name!r}")
        return found

    def __call__(self, example: Example, reply: Reply) -> Score | GraderFailure:
        try:
            given = self._judge(example.model_dump(exclude_none=True), reply.text)
        except Exception as error:  # noqa: BLE001  the user's own code: it may raise anything
            return GraderFailure(f"{type(error).__name__}: {error}")
        return self._score(given)

    def _score(self, given: object) -> Score | GraderFailure:
        value, why, label = given, "", ""
        if isinstance(given, Mapping):
            value, why, label = given.get("score"), str(given.get("why", "")), str(given.get("label", ""))
        if not isinstance(value, int | float) or math.isnan(value) or not 0 <= value <= 1:
            return GraderFailure(f"{self.function} gave {given!r}, which is no score between 0 and 1")
        if self.binary and value not in (0, 1):
            return GraderFailure(f"{self.function} is said to be binary but gave {value}")
        return Score(float(value), why=why, label=label)

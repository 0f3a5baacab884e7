"""A study's graders as objects: made once, prepared before anything is answered, closed when all is graded."""
import hashlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from feinschliff.core.study import GraderSpec, Study
from feinschliff.data.files import sha256_of
from feinschliff.evals.registry import StudyGrader, make


@runtime_checkable
class Prepares(Protocol):
    """A grader with work to do before its first grade, such as building a database."""

    def prepare(self) -> None: ...


@runtime_checkable
class Closes(Protocol):
    """A grader that holds something, such as a child process."""

    def close(self) -> None: ...


@runtime_checkable
class SeesGolds(Protocol):
    """A grader that takes the gold answers as its closed set where its options name none, as `label` does."""

    def seen(self, golds: Iterable[str], /) -> StudyGrader: ...


class Graders:
    """All graders of a study, by name. Use it with `with`.

    Raises BadStudy at once for an unknown type or a wrong option.
    """

    def __init__(self, study: Study, base: Path) -> None:
        self._base = base
        self._specs = {spec.name: spec for spec in study.graders}
        self._graders: dict[str, StudyGrader] = {name: make(spec, base) for name, spec in self._specs.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for grader in self._graders.values():
            if isinstance(grader, Closes):
                grader.close()

    def prepare(self, golds: Iterable[str]) -> None:
        """Whatever can fail before an answer is there, fails now. `golds` are all gold answers of the study."""
        known = tuple(golds)
        for name, grader in self._graders.items():
            if isinstance(grader, SeesGolds):
                self._graders[name] = grader.seen(known)
            if isinstance(grader, Prepares):
                grader.prepare()

    def __getitem__(self, name: str) -> StudyGrader:
        return self._graders[name]

    def fingerprint(self, name: str) -> str:
        """Changes with the grader's settings and with the files they name. (Closed label sets come from the frozen data.)"""
        spec = self._specs[name]
        digest = hashlib.sha256(spec.model_dump_json().encode())
        for file in _files(spec, self._base):
            digest.update(sha256_of(file).encode())
        return digest.hexdigest()


def _files(spec: GraderSpec, base: Path) -> list[Path]:
    """Options that name a file, or a function in one (`grade.py:score`)."""
    texts = [value for value in spec.options.values() if isinstance(value, str) and value]
    return [file for text in texts if _is_file(file := base / text.split(":")[0])]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a regular expression or schema as an option may be longer than any file name
        return False

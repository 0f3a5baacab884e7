"""From a `[[graders]]` table of the study file to a grader. Built-in and installed ones come through the same door."""

import dataclasses
import difflib
import json
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import ClassVar, Protocol, TypeGuard

from pydantic import TypeAdapter, ValidationError

from feinschliff.core.chat import Example
from feinschliff.core.errors import BadStudy
from feinschliff.core.ports import GraderFailure, Reply, Score
from feinschliff.core.study import GraderSpec

GROUP = "feinschliff.graders"


class StudyGrader(Protocol):
    """A grader as a study uses it. `binary`: every score is 0 or 1. Every score is in [0, 1], higher is better."""

    __dataclass_fields__: ClassVar[
        dict[str, dataclasses.Field[object]]
    ]  # it is a dataclass; its fields are the options

    @property
    def binary(self) -> bool: ...

    def __call__(self, example: Example, reply: Reply, /) -> Score | GraderFailure: ...


def known() -> dict[str, EntryPoint]:
    """Every registered grader type by name."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda p: p.name)}


def make(spec: GraderSpec, base: Path) -> StudyGrader:
    """The grader that `spec` describes; relative paths in its options start at `base`, the study file's folder.

    Raises BadStudy, naming the grader and the option, for an unknown type or a wrong option.
    """
    points = known()
    if spec.type not in points:
        raise BadStudy(
            f"grader {spec.name!r}: there is no type {spec.type!r}.{_nearest(spec.type, list(points))}",
            hint=f"Known types: {', '.join(points)}.",
        )
    kind = _loaded(points[spec.type])
    options = [f.name for f in dataclasses.fields(kind) if f.init and f.name != "base"]
    for name in spec.options:
        if name not in options:
            raise BadStudy(
                f"grader {spec.name!r} ({spec.type}): there is no option {name!r}.{_nearest(name, options)}",
                hint=f"Its options: {', '.join(options) or 'none'}.",
            )
    takes_base = any(f.name == "base" for f in dataclasses.fields(kind))
    return _built(spec, kind, {**spec.options, **({"base": str(base)} if takes_base else {})})


def _loaded(point: EntryPoint) -> type[StudyGrader]:
    try:
        kind: object = point.load()
    except (ImportError, AttributeError) as error:
        raise BadStudy(
            f"the grader {point.name!r} ({point.value}) cannot be loaded: {error}",
            hint="Reinstall its package.",
        ) from error
    if not _is_grader(kind):
        raise BadStudy(
            f"the grader {point.name!r} ({point.value}) is not a dataclass with `binary` and a call",
            hint="Its author reads the Protocol feinschliff.evals.registry.StudyGrader.",
        )
    return kind


def _is_grader(kind: object) -> TypeGuard[type[StudyGrader]]:
    return (
        isinstance(kind, type)
        and dataclasses.is_dataclass(kind)
        and hasattr(kind, "binary")
        and callable(kind)
    )


def _built(spec: GraderSpec, kind: type[StudyGrader], options: dict[str, object]) -> StudyGrader:
    try:
        # Strict JSON: "5" is no number and 1 no bool, but a list is a tuple and a text a path, as TOML has neither.
        return TypeAdapter(kind).validate_json(json.dumps(options, default=str), strict=True)
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False):
            place = ".".join(str(part) for part in problem["loc"])
            text = problem["msg"].removeprefix("Value error, ")
            problems.append(f"option {place!r}: {text}" if place else text)
        raise BadStudy(
            f"grader {spec.name!r} ({spec.type}): {'; '.join(problems)}",
            hint="Correct its table in the study file.",
        ) from None


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""

"""The graders' reference, written from the registered graders: `python -m feinschliff.evals.reference`."""

import dataclasses
import inspect
import json
import re
import sys
import types
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Literal, Union, get_args, get_origin, get_type_hints

from feinschliff.evals.graders.extract import extracted
from feinschliff.evals.registry import known

INTRODUCTION = """\
# Graders

A grader scores one reply against one example, in [0, 1]. A study file names it by `type`; its `options` are the fields below:

    [[graders]]
    name = "execution"            # the metric's name in the report
    type = "execution"
    options = {{ engine = "ladybug", setup = "data/load.cypher" }}

Relative paths start at the study file's folder. An unknown option or a value of the wrong type is refused before anything runs.
A grader that breaks on a reply (or meets a gold answer it cannot use) is a recorded failure: counted in the report as
`n_failed`, left out of the mean, never a zero. *Binary* graders say 0 or 1 only. Where all scores of a grader are 0 or 1, arms
are compared by McNemar's exact test; otherwise, and where `split.group` ties examples together, by a paired bootstrap.

`extract` takes the answer out of a model's chatter, from reply and gold answer alike:
{extract}

A grader of your own: a function (type `python`), or a frozen dataclass with `binary` and a call, as
`feinschliff.evals.registry.StudyGrader` has it, registered by your package under the entry-point group
`feinschliff.graders`. The built-in ones come through the same door. This page is written from them (`make docs`).
"""
BUILT_IN = "feinschliff."
WORDS: dict[object, str] = {str: "text", int: "whole number", float: "number", bool: "true/false", Path: "path"}


def render_graders_reference() -> str:
    """Markdown: a section a built-in grader with its purpose and options."""
    points = [point for point in known().values() if point.value.startswith(BUILT_IN)]
    extract = " ".join(inspect.cleandoc(extracted.__doc__ or "").split()).replace("```", "fenced")  # no open fence on the page
    return "\n".join(
        [INTRODUCTION.format(extract=extract), *(line for point in points for line in _section(point))]
    )


def _section(point: EntryPoint) -> Iterator[str]:
    kind: object = point.load()
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise TypeError(f"{point.value} is no grader")
    yield f"## `{point.name}`\n\n{_prose(kind)}\n\n{_binary(kind)}\n"
    options = [f for f in dataclasses.fields(kind) if f.init and f.name != "base"]
    if not options:
        yield "No options.\n"
        return
    hints = get_type_hints(kind)
    yield "| option | type | default |\n|---|---|---|"
    for option in options:
        default = "required" if option.default is dataclasses.MISSING else _value(option.default)
        yield f"| `{option.name}` | {_type(hints[option.name])} | {default} |"
    yield ""


def _prose(kind: type) -> str:
    """The docstring, its paragraphs kept, its lines joined."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(kind.__doc__ or ""))
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _binary(kind: type) -> str:
    binary: object = inspect.getattr_static(kind, "binary")
    if isinstance(binary, bool) and "binary" not in inspect.signature(kind).parameters:
        return "Binary." if binary else "Graded."
    return "Binary or graded, by its options."


def _value(default: object) -> str:
    match default:
        case None | ():
            return ""
        case bool() | int() | float() | str():
            return f"`{json.dumps(default)}`"
        case _:
            return f"`{default}`"


def _type(annotation: object) -> str:
    arguments = [a for a in get_args(annotation) if a is not type(None) and a is not Ellipsis]
    origin = get_origin(annotation)
    if origin is Literal:
        return " or ".join(f"`{json.dumps(a)}`" for a in arguments)
    if origin in (types.UnionType, Union):
        return " or ".join(_type(a) for a in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}s"
    if origin is dict:
        return "table"
    return WORDS.get(annotation, str(annotation))


if __name__ == "__main__":
    sys.stdout.write(render_graders_reference())

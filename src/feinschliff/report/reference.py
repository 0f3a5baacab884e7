"""docs/report.md, made from the report's types, so that the documentation cannot lie.

`python -m feinschliff.report.reference docs/report.md` writes it; a test checks that it is up to date.
"""
import inspect
import io
import json
import re
import sys
import tokenize
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from feinschliff.core.report import Report

_INTRODUCTION = """# report.json

What a study measured and what it decides. Written by `feinschliff study run` next to `report.html`.
This page is made from the types in `src/feinschliff/core/report.py` (`python -m feinschliff.report.reference docs/report.md`).

- `schema_version` changes when a field is renamed, removed or changes its meaning; new fields may come without that.
- Intervals are 95 %: Wilson's for means of 0/1 scores, BCa bootstrap for graded means, and for clustered examples the
  percentiles of a bootstrap over clusters. Differences of 0/1 scores have Newcombe's paired interval (1998, method 10) and an
  exact McNemar test; graded ones the paired bootstrap for both. `n` = 0 says that nothing was scored. Arms that were trained with
  several seeds (`n_runs` above 1) have intervals and a t test over questions and seeds, see [uncertainty.md](uncertainty.md).
- `part` "" is the whole held-out set.
- `break_even_requests`: the least N at which N requests through the arm cost no more than through the best untuned arm, with
  training F, hosting H a month, saving s per request and R requests a month: N = ceil(F / (s − H/R)). `null` where it never does.
"""


def markdown() -> str:
    """The whole page."""
    models: dict[str, type[BaseModel]] = {}
    _collect(Report, models)
    return _INTRODUCTION + "".join(_section(model, models) for model in models.values())


def _collect(model: type[BaseModel], found: dict[str, type[BaseModel]]) -> None:
    """The model and all that its fields hold, in reading order."""
    if model.__name__ in found:
        return
    found[model.__name__] = model
    for field in model.model_fields.values():
        for inner in _models_in(field.annotation):
            _collect(inner, found)


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments: tuple[object, ...] = getattr(annotation, "__args__", ())
    return [model for argument in arguments for model in _models_in(argument)]


def _section(model: type[BaseModel], models: Mapping[str, type[BaseModel]]) -> str:
    notes = _trailing_comments(model)
    lines = [f"\n## {model.__name__}\n"]
    inherited = model.__mro__[1].__doc__
    if model.__doc__ and model.__doc__ != inherited:
        lines.append(inspect.cleandoc(model.__doc__) + "\n")
    lines += ["| field | type | meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        kind = _linked(_type_text(field.annotation), models)
        meaning = [_cell(notes[name])] if name in notes else []
        if not field.is_required() and field.default_factory is None:
            meaning.append(f"default `{json.dumps(field.default)}`")
        lines.append(f"| `{name}` | {kind} | {'; '.join(meaning)} |")
    return "\n".join(lines) + "\n"


def _type_text(annotation: object) -> str:
    text = annotation.__name__ if isinstance(annotation, type) and not hasattr(annotation, "__args__") else str(annotation)
    text = re.sub(r"\b(?:typing|feinschliff(?:\.\w+)*)\.", "", text)
    return text.replace("NoneType", "null").replace("None", "null")


def _linked(text: str, models: Mapping[str, type[BaseModel]]) -> str:
    """The type as code; below it links to the sections of the types it names."""
    names = [n for n in re.findall(r"\w+", text) if n in models]
    links = "".join(f" → [{n}](#{n.lower()})" for n in names)
    return f"`{_cell(text)}`{links}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _trailing_comments(model: type[BaseModel]) -> dict[str, str]:
    """Field → the comment behind it in the source: that is where this code base says what a field means."""
    found: dict[str, str] = {}
    name = ""
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(model)).readline):
        if token.type == tokenize.COMMENT and (match := re.match(r"\s+(\w+):", token.line)):
            name = match[1]
            found[name] = token.string.lstrip("# ").strip()
    return found


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(markdown(), encoding="utf-8")

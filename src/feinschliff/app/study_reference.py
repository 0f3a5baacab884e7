"""The study file's reference, written from the types themselves: `python -m feinschliff.app.study_reference`."""
import inspect
import sys
from collections.abc import Iterator
from typing import Annotated, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from feinschliff.app.study_problems import models_in
from feinschliff.core.finetune import TuningHyperparameters
from feinschliff.core.jobs import EarlyStopping, Hyperparameters, Lora
from feinschliff.core.study import Study

INTRODUCTION = """\
# The study file

One TOML file says what is to be found out: the task, the data, the arms to compare and what counts as success.
`feinschliff study init DATA` writes a commented one from a data file; unknown keys are refused with the nearest right name.
Paths are relative to the study file. This page is written from the types in `core/study.py` (`make docs`).
"""

# The fields of the training spec that a study file shares with the training program and that say nothing of themselves.
SHARED_FIELDS: dict[type[BaseModel], dict[str, str]] = {
    Lora: {
        "kind": 'With `"qlora"` the base is held in 4 bits while it trains: less memory, slower, rounded.',
        "rank": "Rank of the added matrices: more can learn more, and costs more.",
        "alpha": "The update is scaled by alpha / rank.",
        "targets": "Names of the projections that get adapters.",
        "rslora": "Scale by alpha / √rank instead, so that high ranks learn as fast as low ones.",
        "dora": "Train each output's length apart from its direction (DoRA): nearer to full fine-tuning, a little slower.",
    },
    Hyperparameters: {
        "n_epochs": 'Passes over the training part. `"auto"`: by the number of examples.',
        "batch_size": 'Examples per optimizer step. `"auto"`: by the number of examples and trained tokens.',
        "learning_rate": 'The highest, after the warm-up. `"auto"`: by the width of the model and the method.',
        "learning_rate_multiplier": 'What a rate of `"auto"` is multiplied by.',
        "schedule": "How the learning rate falls afterwards.",
        "warmup_ratio": "Part of all steps in which it rises.",
        "weight_decay": "Pull of the trained weights towards zero.",
        "max_grad_norm": "Longer gradients are cut to this length.",
    },
    TuningHyperparameters: {
        "batch_size": "Examples per optimizer step.",
        "learning_rate_multiplier": "What the provider's own learning rate is multiplied by.",
        "n_epochs": "Passes over the training part.",
    },
    EarlyStopping: {
        "patience": "Validations without progress before training ends.",
        "min_delta": "A loss that is lower by no more than this is no progress.",
    },
}


def render_study_reference() -> str:
    """Markdown: a section a table, a row a key with type, default and description."""
    return "\n".join([INTRODUCTION, *_section(Study, "", repeated=False)])


def _section(model: type[BaseModel], table: str, *, repeated: bool) -> Iterator[str]:
    kind = model.model_fields.get("kind")
    variant = f" with {_kinds(kind)}" if kind else ""
    heading = (f"`[[{table}]]`" if repeated else f"`[{table}]`") + variant
    yield f"## {heading}\n" if table else "## Top of the file\n"
    yield f"{_purpose(model)}\n"
    yield "| key | type | default | description |\n|---|---|---|---|"
    nested: list[tuple[type[BaseModel], str, bool]] = []
    for name, field in model.model_fields.items():
        models = models_in(field.annotation)
        path = f"{table}.{name}" if table else name
        path += ".NAME" if get_origin(field.annotation) is dict and models else ""
        many = get_origin(field.annotation) is tuple
        nested += [(inner, path, many) for inner in models]
        if not models:
            described = _described(model, name, field)
            yield f"| `{name}` | {_type(field)} | {_default(field)} | {described} |"
        elif table or field.is_required():
            brackets = f"`[[{path}]]`" if many else f"`[{path}]`"
            yield f"| `{name}` | table {brackets} | {'required' if field.is_required() else ''} | {field.description or ''} |"
    yield ""
    for inner, path, many in nested:
        yield from _section(inner, path, repeated=many)


def _purpose(model: type[BaseModel]) -> str:
    own = model.__dict__.get("__doc__") or ""  # never the base class's
    return " ".join(inspect.cleandoc(own).split())


def _described(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    text = field.description or SHARED_FIELDS.get(model, {}).get(name, "")
    if name == "kind":
        return f"{_kinds(field)} chooses this one. {text}".strip()
    return f"{text} {_bounds(field)}".strip().replace("|", "\\|")


def _kinds(field: FieldInfo) -> str:
    return " or ".join(f"`kind = {_toml(way)}`" for way in get_args(field.annotation))


def _bounds(field: FieldInfo) -> str:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    said = [
        f"{word} {getattr(part, key):g}"
        for part in (*field.metadata, *_metadata(field.annotation))
        for key, word in words.items()
        if getattr(part, key, None) is not None
    ]
    return f"({', '.join(said)})" if said else ""


def _metadata(annotation: object) -> Iterator[object]:
    """Of a union's branches: the bounds of `Annotated[int, Field(ge=1)] | Literal["auto"]`."""
    for branch in get_args(annotation):
        if get_origin(branch) is Annotated:
            info = next((part for part in get_args(branch)[1:] if isinstance(part, FieldInfo)), None)
            yield from info.metadata if info else ()


def _type(field: FieldInfo) -> str:
    return _type_name(field.annotation)


def _type_name(annotation: object) -> str:
    names = {str: "text", int: "whole number", float: "number", bool: "true/false"}
    if isinstance(annotation, type) and annotation in names:
        return names[annotation]
    args = [arg for arg in get_args(annotation) if arg not in (type(None), Ellipsis)]
    origin = get_origin(annotation)
    if origin is Literal:
        return " or ".join(f"`{_toml(arg)}`" for arg in args)
    if origin is tuple:
        return f"list of {_type_name(args[0])}s"
    if origin is dict:
        return "table"
    if origin is Annotated:
        return _type_name(args[0])
    return " or ".join(_type_name(arg) for arg in args)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    return "" if default is None or default is PydanticUndefined else f"`{_toml(default)}`"


def _toml(value: object) -> str:
    match value:
        case str():
            return f'"{value}"'
        case list() | tuple():
            return f"[{', '.join(_toml(v) for v in value)}]"
        case dict():
            return "{}"
        case _:
            return str(value)


if __name__ == "__main__":
    sys.stdout.write(render_study_reference())

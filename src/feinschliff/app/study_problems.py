"""Says pydantic's validation errors in the words of a study file: table, key, what is wrong, what was meant."""
import difflib
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from feinschliff.core.study import GraderSpec, Study

Step = str | int

PLAIN_WORDS = {
    "int_type": "takes a whole number",
    "int_parsing": "takes a whole number",
    "int_from_float": "takes a whole number",
    "float_type": "takes a number",
    "float_parsing": "takes a number",
    "string_type": 'takes a text in quotes ("…")',
    "tuple_type": 'takes a list in brackets (["…"])',
    "dict_type": "takes a table ({ … })",
    "model_type": "is a table, not a single value",
    "model_attributes_type": "is a table, not a single value",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "needs at least {min_length} entry",
    "literal_error": "takes one of {expected}",
    "union_tag_invalid": "takes a kind of {expected_tags}",
    "union_tag_not_found": 'needs `kind = "lora"` or `kind = "full"`',
    "string_pattern_mismatch": "takes letters, digits, dots, dashes and underscores, starting with a letter or digit",
}


def problems_of(error: ValidationError) -> list[str]:
    """One line a problem, in the order of the file's tables; the branches of a union count once."""
    lines: dict[tuple[Step, ...], list[str]] = {}
    given: dict[tuple[Step, ...], str] = {}
    for detail in error.errors(include_url=False):
        loc = _known(detail["loc"])
        lines.setdefault(loc, []).append(_said(detail, loc))
        if detail["type"] in PLAIN_WORDS:
            given[loc] = f", not {_shown(detail['input'])}"
    return [_place(loc) + _alternatives(said) + given.get(loc, "") for loc, said in lines.items()]


def _alternatives(said: Sequence[str]) -> str:
    """Of a union's branches: "takes a whole number or 'auto'"."""
    first, *others = dict.fromkeys(said)
    return " or ".join([first, *(other.removeprefix("takes ").removeprefix("one of ") for other in others)])


def fields_of(model: type[BaseModel]) -> Iterator[tuple[str, object]]:
    """Name and annotation of every field."""
    return ((name, field.annotation) for name, field in model.model_fields.items())


def models_in(annotation: object) -> list[type[BaseModel]]:
    """The models that an annotation admits: `tuple[GraderSpec, ...]` → [GraderSpec], `Lora | Full` → both, `dict[str, Hosted]` → [Hosted]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return models_in(get_args(annotation)[0])
    if get_origin(annotation) is dict:
        return models_in(get_args(annotation)[1])
    if get_origin(annotation) in (Union, UnionType, tuple):
        return [model for arg in get_args(annotation) for model in models_in(arg)]
    return []


def _known(loc: Sequence[Step]) -> tuple[Step, ...]:
    """The location without what pydantic adds inside it: union tags and the names of a union's branches."""
    kept: list[Step] = []
    models: list[type[BaseModel]] = [Study]
    named = False  # by the user: `[hosted.NAME]`
    for i, step in enumerate(loc):
        fields = {name: annotation for model in models for name, annotation in fields_of(model)}
        if named:
            kept.append(step)
            named = False
        elif step in fields:
            kept.append(step)
            models, named = models_in(fields[step]), get_origin(fields[step]) is dict
        elif isinstance(step, int) or (i == len(loc) - 1 and _is_key(step, models)):
            kept.append(step)
    return tuple(kept)


def _is_key(step: str, models: Sequence[type[BaseModel]]) -> bool:
    """Whether an unknown last step is a key the user wrote, not the tag or branch of a union."""
    tags = {tag for model in models for tag in get_args(dict(fields_of(model)).get("kind"))}
    return bool(models) and step not in tags


def _said(detail: ErrorDetails, loc: Sequence[Step]) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        return _unknown_key(str(detail["loc"][-1]), detail["loc"])
    if kind == "missing":
        return _missing_key(loc)
    if kind == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    if kind not in PLAIN_WORDS:
        return detail["msg"]
    return PLAIN_WORDS[kind].format(**detail.get("ctx", {}))


def _shown(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "a table"
        case list() | tuple():
            return "an empty list" if not value else "a list"
        case _:
            text = repr(value)
            return text if len(text) <= 60 else f"{text[:57]}…"


def _unknown_key(key: str, raw: Sequence[Step]) -> str:
    owners = _owners(raw)
    names = list(dict.fromkeys(name for owner in owners for name, _ in fields_of(owner)))
    close = difflib.get_close_matches(key.lower(), names, n=1, cutoff=0.6)
    if close:
        return f"unknown key; did you mean `{close[0]}`?"
    if GraderSpec in owners:
        return f"unknown key; a grader's own settings go under `options = {{ {key} = … }}`"
    elsewhere = [table for table, annotation in fields_of(Study) for m in models_in(annotation) if key in m.model_fields]
    moved = f"; there is one in [{elsewhere[0]}]" if elsewhere else ""
    return f"unknown key{moved}; here stand {', '.join(names)}"


def _owners(raw: Sequence[Step]) -> list[type[BaseModel]]:
    """The models among whose fields the last step was looked for; a union's tag narrows them to one."""
    models: list[type[BaseModel]] = [Study]
    for step in raw[:-1]:
        fields = {name: annotation for model in models for name, annotation in fields_of(model)}
        if step in fields:
            models = models_in(fields[step])
        else:
            models = [m for m in models if step in get_args(dict(fields_of(m)).get("kind"))] or models
    return models


def _missing_key(loc: Sequence[Step]) -> str:
    fields = {name: field for owner in _owners(loc) for name, field in owner.model_fields.items()}
    field = fields.get(str(loc[-1]))
    is_table = field is not None and models_in(field.annotation)
    what = "this table is missing" if is_table else "is missing"
    return f"{what} ({field.description})" if field is not None and field.description else what


def _place(loc: Sequence[Step]) -> str:
    """`[training.hyperparameters] n_epochs: `, `[[graders]] no. 2, type: `; nothing for the file as a whole."""
    if not loc:
        return ""
    *tables, key = loc
    if len(loc) == 1:
        is_table = bool(models_in(Study.model_fields[key].annotation)) if key in Study.model_fields else False
        return f"[{key}]: " if is_table else f"{key}: "
    if loc[0] == "graders":
        number = f"no. {loc[1] + 1}" if isinstance(loc[1], int) else loc[1]
        rest = ".".join(str(s) for s in loc[2:])
        return f"[[graders]] {number}{', ' if rest else ''}{rest}: "
    if isinstance(key, int):
        tables, key = tables[:-1], f"{tables[-1]}, entry {key + 1}"
    place = ".".join(str(t) for t in tables)
    return f"[{place}] {key}: " if place else f"{key}: "

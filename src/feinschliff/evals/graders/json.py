"""Graders of JSON replies: is it JSON, does it follow a schema, are its fields right, is it the right tool call."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import jsonschema
from jsonschema.protocols import Validator
from referencing import Registry

from feinschliff.core.chat import Example
from feinschliff.core.ports import GraderFailure, Reply, Score
from feinschliff.evals.graders.extract import Extract, extracted

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


def parsed(text: str) -> JsonValue:
    """`text` as strict JSON (no NaN, no Infinity). Raises ValueError, saying where."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


@dataclass(frozen=True)
class JsonValid:
    """1 where the reply is one JSON value."""

    extract: Extract = "fence"
    binary: ClassVar[bool] = True

    def __call__(self, example: Example, reply: Reply) -> Score | GraderFailure:
        try:
            parsed(extracted(reply.text, self.extract))
        except ValueError as error:
            return Score(0.0, why=f"not JSON: {error}")
        return Score(1.0)


@dataclass(frozen=True)
class JsonSchema:
    """1 where the reply is JSON that follows `schema` (JSON Schema, written in place) or the schema in `file`."""

    schema: dict[str, object] | None = None
    file: Path | None = None
    extract: Extract = "fence"
    base: Path = field(default=Path(), repr=False)
    binary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if (self.schema is None) == (self.file is None):
            raise ValueError("takes exactly one of `schema` (a table) and `file` (a path)")
        try:
            self._validator.check_schema(self._schema)
        except jsonschema.SchemaError as error:
            raise ValueError(f"the schema is not a JSON Schema: {error.message}") from None
        except OSError as error:
            raise ValueError(f"the schema {self.file} cannot be read: {error.strerror}") from None

    @cached_property
    def _schema(self) -> dict[str, object]:
        if self.schema is not None:
            return self.schema
        loaded = parsed((self.base / (self.file or "")).read_text(encoding="utf-8-sig"))
        if not isinstance(loaded, dict):
            raise ValueError(f"the schema {self.file} is not a JSON object")
        return {**loaded}

    @cached_property
    def _validator(self) -> Validator:
        kind = jsonschema.validators.validator_for(self._schema, default=jsonschema.Draft202012Validator)
        return kind(self._schema, registry=Registry())  # an empty registry: a $ref never goes to the network

    def __call__(self, example: Example, reply: Reply) -> Score | GraderFailure:
        try:
            value = parsed(extracted(reply.text, self.extract))
        except ValueError as error:
            return Score(0.0, why=f"not JSON: {error}")
        wrong = next(iter(self._validator.iter_errors(value)), None)
        return Score(0.0, why=f"{wrong.json_path}: {wrong.message}") if wrong else Score(1.0)


@dataclass(frozen=True)
class JsonFields:
    """F1 over the fields of gold and reply. A field is a path with its value; the places in a list don't count.

    1 where all are right and none is added, 0 where the reply is not JSON.
    """

    extract: Extract = "fence"
    binary: ClassVar[bool] = False

    def __call__(self, example: Example, reply: Reply) -> Score | GraderFailure:
        try:
            gold = Counter(leaves(parsed(extracted(example.answer, self.extract))))
        except ValueError as error:
            return GraderFailure(f"the gold answer is not JSON: {error}")
        try:
            said = Counter(leaves(parsed(extracted(reply.text, self.extract))))
        except ValueError as error:
            return Score(0.0, why=f"not JSON: {error}")
        right = (gold & said).total()
        wrong = next(iter(gold - said), None) or next(iter(said - gold), None)
        return Score(
            2 * right / (gold.total() + said.total()),
            why=f"differs at {wrong[0] or 'the root'}" if wrong else "",
        )


def leaves(value: JsonValue, path: str = "") -> Iterator[tuple[str, str]]:
    """Every scalar (or empty list or object) of `value` as (path, JSON text); 1 and 1.0 are the same number."""
    match value:
        case dict() if value:
            for key, inner in value.items():
                yield from leaves(inner, f"{path}.{key}")
        case list() if value:
            for inner in value:
                yield from leaves(inner, f"{path}[]")
        case float() if float(value).is_integer():
            yield path, json.dumps(int(value))
        case _:
            yield path, json.dumps(value)


@dataclass(frozen=True)
class ToolCallMatch:
    """1 where the reply calls the gold answer's functions with equal arguments (as JSON); the order of the calls is free.

    Gold: the answer's `tool_calls`, else its content. Read are one call or a list of calls: `{"name", "arguments"}`,
    OpenAI's `{"function": {…}}` and `{"tool_calls": […]}`, each call also inside `<tool_call>` tags.
    """

    extract: Extract = "fence"
    binary: ClassVar[bool] = True

    def __call__(self, example: Example, reply: Reply) -> Score | GraderFailure:
        try:
            gold = self._gold(example)
        except ValueError as error:
            return GraderFailure(f"the gold answer is not a tool call: {error}")
        try:
            said = calls(extracted(reply.text, self.extract))
        except ValueError as error:
            return Score(0.0, why=f"not a tool call: {error}")
        if sorted(gold) == sorted(said):
            return Score(1.0)
        names = [name for name, _ in said]
        return Score(
            0.0,
            why="other arguments"
            if sorted(names) == sorted(n for n, _ in gold)
            else f"calls {', '.join(names)}",
        )

    def _gold(self, example: Example) -> list[tuple[str, str]]:
        made = example.messages[-1].tool_calls
        if made:
            return [(call.function.name, _canonical(parsed(call.function.arguments))) for call in made]
        return calls(extracted(example.answer, self.extract))


_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)


def calls(text: str) -> list[tuple[str, str]]:
    """The tool calls in `text` as (name, canonical JSON of the arguments). Raises ValueError."""
    tagged = _TAGGED.findall(text)
    value: JsonValue = [parsed(part) for part in tagged] if tagged else parsed(text)
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    made = [_call(item) for item in (value if isinstance(value, list) else [value])]
    if not made:
        raise ValueError("no call")
    return made


def _call(value: JsonValue) -> tuple[str, str]:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError("a call needs a name")
    arguments = value.get("arguments", value.get("parameters", {}))
    return str(value["name"]), _canonical(parsed(arguments) if isinstance(arguments, str) else arguments)


def _canonical(value: JsonValue) -> str:
    return json.dumps(_whole(value), sort_keys=True)


def _whole(value: JsonValue) -> JsonValue:
    match value:
        case dict():
            return {key: _whole(inner) for key, inner in value.items()}
        case list():
            return [_whole(inner) for inner in value]
        case float() if float(value).is_integer():
            return int(value)
        case _:
            return value

"""How a model writes the calls of functions: learnt from its chat template, which shows calls that were made earlier.

A conversation with a call whose name and arguments occur nowhere else is rendered, and what stands around them is the
model's own form: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, `[TOOL_CALLS][{…}]`, `name[ARGS]{…}`. Forms whose
arguments are no JSON object cannot be learnt this way.
"""
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from feinschliff.core.chat import FunctionCall, Message, Tool, ToolCall, assistant, user
from feinschliff.core.errors import BadData
from feinschliff.data.template import ChatTemplate

JsonObject = dict[str, Any]
_DECODER = json.JSONDecoder()
_TEXT, _FUNCTION = "feinschliff-text-probe", "feinschliff_function_probe"
_NAMES = ("feinschliff_first_probe", "feinschliff_second_probe")
_ARGUMENTS: tuple[JsonObject, ...] = ({"feinschliff_key_1": "value"}, {"feinschliff_key_2": "value"})
_IDS = ("probe0001", "probe0002")  # Mistral's templates want nine letters and digits


@dataclass(frozen=True, slots=True)
class Function:
    """One that a model may call. `parameters` is a JSON schema."""

    name: str
    parameters: JsonObject


@dataclass(frozen=True, slots=True)
class Found:
    """A call in a text, and where it ends there."""

    call: FunctionCall
    end: int


@dataclass(frozen=True, slots=True)
class ObjectCall:
    """Calls written as JSON objects that hold name and arguments under these keys (and perhaps more)."""

    name_key: str
    arguments_key: str

    def read(self, text: str, start: int) -> Found | None:
        """The call that begins at `start`, None where there is none or it is not whole yet."""
        decoded = _object(text, start)
        if decoded is None:
            return None
        value, end = decoded
        name, arguments = value.get(self.name_key), value.get(self.arguments_key, {})
        if isinstance(arguments, str):
            return Found(FunctionCall(name=name, arguments=arguments), end) if isinstance(name, str) else None
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return None
        return Found(FunctionCall(name=name, arguments=json.dumps(arguments, ensure_ascii=False)), end)

    def read_part(self, text: str, start: int) -> FunctionCall | None:
        """A call that was broken off in its arguments."""
        name, arguments = (re.escape(json.dumps(key)) for key in (self.name_key, self.arguments_key))
        found = re.compile(rf'\{{\s*{name}\s*:\s*"([^"]*)"\s*,\s*{arguments}\s*:\s*(.*)', re.DOTALL).match(text, start)
        return FunctionCall(name=found[1], arguments=found[2]) if found else None

    def schema(self, functions: Sequence[Function]) -> JsonObject:
        """Of a call of one of them."""
        calls: list[JsonObject] = []
        for i, f in enumerate(functions):
            place = f"properties/{self.arguments_key}" if len(functions) == 1 else f"anyOf/{i}/properties/{self.arguments_key}"
            parts = {self.name_key: {"const": f.name}, self.arguments_key: _moved(f.parameters, place)}
            calls.append({"type": "object", "properties": parts, "required": list(parts), "additionalProperties": False})
        return calls[0] if len(calls) == 1 else {"anyOf": calls}


@dataclass(frozen=True, slots=True)
class NamedCall:
    """Calls written as the function's name, the text `middle`, and its arguments as a JSON object."""

    middle: str

    def read(self, text: str, start: int) -> Found | None:
        """As `ObjectCall.read`."""
        part = self.read_part(text, start)
        if part is None:
            return None
        decoded = _object(text, text.index(self.middle, start) + len(self.middle))
        return None if decoded is None else Found(FunctionCall(name=part.name, arguments=json.dumps(decoded[0], ensure_ascii=False)), decoded[1])

    def read_part(self, text: str, start: int) -> FunctionCall | None:
        """As `ObjectCall.read_part`."""
        name, middle, arguments = text[start:].partition(self.middle)
        return FunctionCall(name=name.strip(), arguments=arguments) if middle else None


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """`prelude` stands before every answer that calls, `opening` before the first call, `between` between two (None: one at most)."""

    prelude: str
    opening: str
    between: str | None
    call: ObjectCall | NamedCall


@dataclass(frozen=True, slots=True)
class ToolSkills:
    """What a chat template knows: to show the functions on offer, to show earlier calls, and a form of calls that can be read."""

    offers: bool
    shows_calls: bool
    format: ToolFormat | None


@lru_cache(maxsize=256)
def skills_of(folder: Path) -> ToolSkills:
    """Of a model folder's template. Raises ModelUnavailable where there is none."""
    return learn(ChatTemplate.of(folder))


def learn(template: ChatTemplate) -> ToolSkills:
    """What `template` does with sentinels."""
    tools: list[Tool] = [
        {"type": "function", "function": {"name": _FUNCTION, "description": "d", "parameters": {"type": "object", "properties": {}}}}
    ]
    asked = _rendered(template, (), tools, answer_next=True)
    one = _rendered(template, (_calling(1),), tools)
    if asked is None or one is None or _NAMES[0] not in one:
        return ToolSkills(asked is not None and _FUNCTION in asked, shows_calls=False, format=None)
    plain = _rendered(template, (assistant(_TEXT),), tools) or asked
    begun = _common(plain.partition(_TEXT)[0], one)
    two = _rendered(template, (_calling(2),), tools) or ""
    prelude = begun[len(asked) :] if begun.startswith(asked) else ""
    format = _format(one[len(begun) :], two[len(begun) :] if two.startswith(begun) else "", prelude)
    return ToolSkills(_FUNCTION in asked, shows_calls=True, format=format)


def _format(one: str, two: str, prelude: str) -> ToolFormat | None:
    """From a turn with one call and one with two, "" where the template takes one at most."""
    found = _located(one, 0)
    if found is None:
        return None
    call, start, _ = found
    if isinstance(call, NamedCall) and not one[:start].strip():
        return None  # nothing would tell a call from text
    first, second = _located(two, 0), _located(two, 1)
    return ToolFormat(prelude, one[:start], two[first[2] : second[1]] if first and second else None, call)


def _located(text: str, which: int) -> tuple[ObjectCall | NamedCall, int, int] | None:
    """The form of sentinel call `which` in `text`, where it begins and where it ends."""
    name_at = text.find(_NAMES[which])
    key_at = text.find(json.dumps(next(iter(_ARGUMENTS[which]))))
    if name_at < 0 or key_at < 0:
        return None
    for start in reversed([m.start() for m in re.finditer(r"\{", text[: min(name_at, key_at)])]):
        value, end = _object(text, start) or ({}, 0)
        name_key = next((k for k, v in value.items() if v == _NAMES[which]), None)
        arguments_key = next((k for k, v in value.items() if v == _ARGUMENTS[which]), None)
        if name_key and arguments_key:
            return ObjectCall(name_key, arguments_key), start, end
    brace = text.rfind("{", 0, key_at)
    value, end = (_object(text, brace) if brace > name_at else None) or ({}, 0)
    middle = text[name_at + len(_NAMES[which]) : brace]
    return (NamedCall(middle), name_at, end) if value == _ARGUMENTS[which] and middle.strip() else None


def _calling(n: int) -> Message:
    calls = zip(_IDS[:n], _NAMES, _ARGUMENTS, strict=False)
    made = tuple(ToolCall(id=i, function=FunctionCall(name=name, arguments=json.dumps(a))) for i, name, a in calls)
    return Message(role="assistant", tool_calls=made)


def _rendered(template: ChatTemplate, answer: tuple[Message, ...], tools: Sequence[Tool], *, answer_next: bool = False) -> str | None:
    try:
        return template.render((user("u"), *answer), tools=tools, answer_next=answer_next)
    except BadData:
        return None


def _object(text: str, start: int) -> tuple[JsonObject, int] | None:
    """The JSON object at `start`, white space before it passed over, and its end."""
    start += len(text[start:]) - len(text[start:].lstrip())
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (json.JSONDecodeError, RecursionError):
        return None
    return (value, end) if isinstance(value, dict) else None


def _common(a: str, b: str) -> str:
    """What both begin with."""
    return a[: next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))]


def _moved(schema: JsonObject, place: str) -> JsonObject:
    """A schema for use inside another one: what it refers to is at `place` there."""

    def moved(part: object) -> object:
        match part:
            case list():
                return [moved(p) for p in part]
            case dict():
                return {k: f"#/{place}{v[1:]}" if k == "$ref" and str(v).startswith("#") else moved(v) for k, v in part.items()}
            case _:
                return part

    return {key: moved(value) for key, value in ({"allOf": [schema]} if "$ref" in schema else schema).items()}

"""An answer's text told apart: what is said, and the functions that are called; as the text comes in or at once."""
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from feinschliff.core.chat import FunctionCall
from feinschliff.data.tool_format import Function, JsonObject, NamedCall, ToolFormat


@dataclass(frozen=True, slots=True)
class Forced:
    """How an answer is made to be a call: it begins with `begun`, and what follows is JSON of this schema.

    `written` is what of the call itself is a part of `begun`.
    """

    begun: str
    schema: JsonObject
    written: str


def forced(format: ToolFormat, functions: Sequence[Function]) -> Forced | None:
    """For a call of one of `functions`. None where the model's form of calls cannot be held to a choice among several."""
    call, begun = format.call, format.prelude + format.opening
    if not isinstance(call, NamedCall):
        return Forced(begun, call.schema(functions), "")
    if len(functions) > 1:
        return None
    written = functions[0].name + call.middle
    return Forced(begun + written, functions[0].parameters, written)


class CallReader:
    """Reads one answer. Only calls of `names` are calls; anything else, if it looks like one or not, is text.

    Text is told as soon as it cannot be the beginning of a call, a call when it is whole. What follows the first call is
    not told, further calls excepted, and with `several` False not even these.
    """

    def __init__(self, format: ToolFormat, names: frozenset[str], *, several: bool = True, written: str | None = None) -> None:
        self._format, self._names, self._several = format, names, several
        self._lead = next(iter(format.opening.split()), "")  # what every first call begins with, whatever white space follows
        self._opening = _lenient(format.opening)
        self._next = _lenient(format.between or format.opening)
        self._held = written or ""
        self._begun = written is not None  # the prompt has the opening
        self._told = False
        self.n_calls = 0

    def push(self, text: str) -> list[str | FunctionCall]:
        """What is certain now."""
        self._held += text
        return list(self._certain())

    def finish(self, *, cut: bool) -> list[str | FunctionCall]:
        """The rest. Where the answer was cut for its length, a call may be cut in its arguments."""
        start = self._start()
        part = self._format.call.read_part(self._held, start) if cut and start is not None and self._open else None
        if part is not None and part.name in self._names:
            self.n_calls += 1
            return [part]
        return [] if self.n_calls or not self._held else [self._held]

    @property
    def _open(self) -> bool:
        """Whether another call may come."""
        return not self.n_calls or (self._several and self._format.between is not None)

    def _certain(self) -> Iterator[str | FunctionCall]:
        while self._open:
            if not self.n_calls and not self._begun and (text := self._text_before()):
                self._told = True
                yield text
            start = self._start()
            found = None if start is None else self._format.call.read(self._held, start)
            if found is None:
                return
            known = found.call.name in self._names
            if known:
                self.n_calls += 1
                yield found.call
            elif not self.n_calls:
                self._told = True
                yield self._held[: found.end]
            self._held, self._begun = self._held[found.end :], False

    def _start(self) -> int | None:
        """Where in the held text a call begins, None where that has not come yet, or none does."""
        if self._begun:
            return 0
        if not self.n_calls and not self._lead and self._told:
            return None  # calls that nothing announces are whole answers
        found = (self._next if self.n_calls else self._opening).match(self._held)
        return found.end() if found else None

    def _text_before(self) -> str:
        """Take from the held text what can be no part of a call."""
        held = self._held
        if not self._lead:
            certain = len(held) if self._told or held.lstrip()[:1] not in ("", "{") else 0
        else:
            at = held.find(self._lead)
            certain = len(held[: len(held) - _overlap(held, self._lead) if at < 0 else at].rstrip())
        self._held = held[certain:]
        return held[:certain]


def _lenient(text: str) -> re.Pattern[str]:
    """Matches `text` with any white space where it has some, and around it."""
    return re.compile(r"\s*" + r"\s*".join(re.escape(part) for part in text.split()) + r"\s*")


def _overlap(text: str, lead: str) -> int:
    """The longest end of `text` that `lead` begins with."""
    return next((n for n in range(min(len(text), len(lead) - 1), 0, -1) if text.endswith(lead[:n])), 0)

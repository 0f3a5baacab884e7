"""Functions that a model may call: offered in its prompt, their calls found in its answer, or made certain."""
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from feinschliff.core.chat import FunctionCall
from feinschliff.core.live import ChatPrompt, Completed, Ended, JsonFormat, Piece, ScoredToken, Submit
from feinschliff.core.service_errors import RequestError
from feinschliff.data.tool_calls import CallReader, forced
from feinschliff.data.tool_format import Function, JsonObject, ToolFormat, skills_of
from feinschliff.providers.live_program import Answer

NewReader = Callable[[], CallReader]


@dataclass(frozen=True, slots=True)
class Toolbox:
    """`shown` is what the template is given, as the client wrote it, which is also how training data has it.

    `only` names the function that has to be called.
    """

    shown: tuple[JsonObject, ...]
    functions: tuple[Function, ...]
    choice: Literal["none", "auto", "required"] = "auto"
    only: str | None = None
    several: bool = True


@dataclass(frozen=True, slots=True)
class Called:
    """Choice `index` calls a function, its call `number` (from 0)."""

    index: int
    number: int
    call: FunctionCall
    tokens: tuple[ScoredToken, ...] = ()


Heard = Answer | Called


@dataclass(frozen=True, slots=True)
class Tooled:
    """A request that shows functions, and readers for its choices: None where no calls are looked for."""

    request: Submit
    new_reader: NewReader | None


def tooled(base: Path, request: Submit, prompt: ChatPrompt, toolbox: Toolbox | None) -> Tooled:
    """Raises RequestError where the template of the model in `base` does not know what the conversation has, or the choice
    cannot be enforced."""
    if toolbox is None and not any(m.tool_calls for m in prompt.messages):
        return Tooled(request, None)
    skills = skills_of(base)
    if not skills.shows_calls and any(m.tool_calls for m in prompt.messages):
        raise RequestError(
            "This model's chat template does not show earlier calls.", param="messages",
            hint="Use a model that was made for tools, or tell the calls as text.",
        )  # fmt: skip
    if toolbox is None:
        return Tooled(request, None)
    if not skills.offers or skills.format is None:
        lacks = "does not show tools" if not skills.offers else "has no form of calls that can be read (a name and JSON arguments)"
        raise RequestError(
            f"Tools are not supported with this model: its chat template {lacks}.", param="tools",
            hint="Use a model that was made for tools, or describe them in the system message.",
        )  # fmt: skip
    shown = request.model_copy(update={"prompt": prompt.model_copy(update={"tools": toolbox.shown})})
    if toolbox.choice == "none":
        return Tooled(shown, None)
    return _looked_for(shown.model_copy(update={"markup": True}), skills.format, toolbox)


def _looked_for(request: Submit, format: ToolFormat, toolbox: Toolbox) -> Tooled:
    names = frozenset(f.name for f in toolbox.functions)
    if toolbox.choice == "auto":
        return Tooled(request, lambda: CallReader(format, names, several=toolbox.several))
    way = forced(format, [f for f in toolbox.functions if toolbox.only in (None, f.name)])
    if way is None:
        raise RequestError(
            "This model's form of calls cannot be held to one of several functions.", param="tool_choice",
            hint="Name the function, or offer one only.",
        )  # fmt: skip
    prompt = request.prompt.model_copy(update={"begun": way.begun})
    held = request.model_copy(update={"prompt": prompt, "format": JsonFormat.model_validate({"schema": way.schema})})
    return Tooled(held, lambda: CallReader(format, names, several=False, written=way.written))


@dataclass(slots=True)
class _Choice:
    reader: CallReader
    tokens: list[ScoredToken] = field(default_factory=list)  # of text that is held back
    n_calls: int = 0


async def heard(answers: AsyncGenerator[Answer, None], new_reader: NewReader) -> AsyncGenerator[Heard, None]:
    """The same answers, their calls told as such. Tokens come with what is told next."""
    choices: dict[int, _Choice] = {}
    async with aclosing(answers):
        async for event in answers:
            if isinstance(event, Completed):
                yield event
                continue
            choice = choices.setdefault(event.index, _Choice(new_reader()))
            if isinstance(event, Piece):
                choice.tokens += event.tokens
                for found in choice.reader.push(event.text):
                    yield _told(event, choice, found)
                continue
            for found in choice.reader.finish(cut=event.finish_reason == "length"):
                yield _told(event, choice, found)
            if choice.tokens:
                yield _told(event, choice, "")
            called = choice.n_calls > 0 and event.finish_reason == "stop"
            yield event.model_copy(update={"finish_reason": "tool_calls"}) if called else event


def _told(event: Piece | Ended, choice: _Choice, found: str | FunctionCall) -> Piece | Called:
    tokens, choice.tokens = tuple(choice.tokens), list[ScoredToken]()
    if isinstance(found, str):
        return Piece(id=event.id, index=event.index, text=found, tokens=tokens)
    choice.n_calls += 1
    return Called(event.index, choice.n_calls - 1, found, tokens)

"""Function tools as requests give them, and calls as answers show them."""
import secrets
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from feinschliff.api.wire import Body, Shown
from feinschliff.app.service import ALPHABET
from feinschliff.app.tool_calls import Toolbox
from feinschliff.core.chat import FunctionCall
from feinschliff.core.service_errors import RequestError
from feinschliff.data.tool_format import Function

CALL_ID_LENGTH = 9  # letters and digits, as the templates of Mistral's models demand
Name = Annotated[str, Field(pattern="^[a-zA-Z0-9_-]{1,64}$")]


class FunctionIn(Body):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def function(self) -> Function:
        """Without parameters it takes none; with them, always an object."""
        if self.parameters is None:
            return Function(self.name, {"type": "object", "properties": {}, "additionalProperties": False})
        return Function(self.name, {"type": "object", **self.parameters})


class ToolIn(Body):
    """`given` is the tool as the client wrote it: the order of its keys is what the model sees."""

    type: Literal["function"]
    function: FunctionIn
    given: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _keep(cls, given: object) -> object:
        return {**given, "given": given} if isinstance(given, dict) else given


class NamedFunction(Body):
    name: str


class NamedChoice(Body):
    type: Literal["function"]
    function: NamedFunction


ToolChoice = Literal["none", "auto", "required"] | NamedChoice | None


class CallOut(Shown):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class CallChunk(CallOut):
    index: int


def new_call_id() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(CALL_ID_LENGTH))


def toolbox(
    functions: Sequence[FunctionIn], shown: Sequence[dict[str, Any]], choice: ToolChoice, several: bool | None
) -> Toolbox | None:
    """None without tools. Raises RequestError for a choice that they cannot meet."""
    names = [f.name for f in functions]
    only = choice.function.name if isinstance(choice, NamedChoice) else None
    if not names and (only is not None or choice == "required"):
        raise RequestError("tool_choice asks for a call, and there are no tools.", param="tool_choice")
    if only is not None and only not in names:
        raise RequestError(f"tool_choice names {only!r}; the tools are: {', '.join(names)}.", param="tool_choice")
    if len(set(names)) < len(names):
        raise RequestError("Two tools have the same name.", param="tools")
    if not names:
        return None
    mode = "required" if isinstance(choice, NamedChoice) else choice or "auto"
    return Toolbox(tuple(shown), tuple(f.function() for f in functions), mode, only, several is not False)

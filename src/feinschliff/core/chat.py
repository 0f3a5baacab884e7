"""What a conversation and a training example are, on the wire and in memory."""
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NewType

from pydantic import BaseModel, ConfigDict, Field

ExampleId = NewType("ExampleId", str)
Role = Literal["system", "developer", "user", "assistant", "tool"]


class Wire(BaseModel):
    """Base of everything that crosses a process, file or HTTP boundary: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FunctionCall(Wire):
    """`arguments` is a JSON text, as in OpenAI's chat format."""

    name: str
    arguments: str


class ToolCall(Wire):
    id: str = ""
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Wire):
    """One turn. `weight` 0 keeps an assistant turn in the context but out of the loss."""

    role: Role
    content: str | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_call_id: str | None = None
    weight: Literal[0, 1] | None = None


Conversation = tuple[Message, ...]
Tool = Mapping[str, Any]  # a JSON-Schema function definition, passed on to the chat template as it is


class Example(Wire):
    """One labelled conversation; its last message is the assistant's gold answer.

    `meta` holds the other fields of the source row (group, part, ids), `line` the 1-based line or row it came from.
    """

    messages: Conversation
    tools: tuple[dict[str, Any], ...] | None = None
    meta: dict[str, Any] = Field(default_factory=dict)
    line: int = 0

    @property
    def prompt(self) -> Conversation:
        """What a responder is shown: everything before the final answer."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        """The gold text ("" for an answer that consists of tool calls only)."""
        return self.messages[-1].content or ""

    @property
    def question(self) -> str:
        """The last user text: the query for retrieval and few-shot similarity."""
        return next((m.content or "" for m in reversed(self.prompt) if m.role == "user"), "")

    @property
    def id(self) -> ExampleId:
        """Stable under reordering of the file: a hash of what is said, not of where it stands."""
        payload = [m.model_dump(exclude_none=True) for m in self.messages]
        text = json.dumps([payload, self.tools], sort_keys=True, ensure_ascii=False)
        return ExampleId(hashlib.sha256(text.encode()).hexdigest()[:16])


@dataclass(frozen=True, slots=True)
class Rendered:
    """One example as the model sees it. `tokens` (T,) ids and `weights` (T,): token t is trained iff weights[t] > 0.

    `n_prompt` tokens come before the first trained one.
    """

    tokens: Sequence[int]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.weights):
            raise ValueError(f"{len(self.tokens)} tokens but {len(self.weights)} weights")

    @property
    def n_trained(self) -> int:
        return sum(w > 0 for w in self.weights)

    @property
    def n_prompt(self) -> int:
        return next((i for i, w in enumerate(self.weights) if w > 0), len(self.tokens))


def user(text: str) -> Message:
    return Message(role="user", content=text)


def system(text: str) -> Message:
    return Message(role="system", content=text)


def assistant(text: str) -> Message:
    return Message(role="assistant", content=text)

"""What /v1/responses answers: the response object, its items, and the events that tell of them while they come to be."""
from typing import Any, Literal

from pydantic import Field

from feinschliff.api.openai.chat import TokenLogprob
from feinschliff.api.openai.responses_in import ResponseIn
from feinschliff.api.wire import Shown
from feinschliff.core.live import Completed

State = Literal["in_progress", "completed", "incomplete"]


class TextOut(Shown):
    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[str]  # always empty: nothing here cites
    logprobs: list[TokenLogprob]


class MessageOut(Shown):
    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    status: State
    content: list[TextOut]


class CallOut(Shown):
    id: str
    type: Literal["function_call"] = "function_call"
    call_id: str
    name: str
    arguments: str
    status: State


ItemOut = MessageOut | CallOut


class InputDetails(Shown):
    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(Shown):
    reasoning_tokens: int


class UsageOut(Shown):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int

    @classmethod
    def of(cls, counts: Completed) -> "UsageOut":
        return cls(
            input_tokens=counts.prompt_tokens, output_tokens=counts.completion_tokens,
            input_tokens_details=InputDetails(cached_tokens=counts.cached_tokens, cache_write_tokens=0),
            output_tokens_details=OutputDetails(reasoning_tokens=0), total_tokens=counts.prompt_tokens + counts.completion_tokens,
        )  # fmt: skip


class Cut(Shown):
    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ToolOut(Shown):
    type: Literal["function"] = "function"
    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool | None


class ChosenOut(Shown):
    type: Literal["function"] = "function"
    name: str


class SchemaOut(Shown):
    type: Literal["json_schema"] = "json_schema"
    name: str
    schema_: dict[str, Any] = Field(serialization_alias="schema")
    strict: bool | None


class FormatOut(Shown):
    type: Literal["text", "json_object"]


class TextConfigOut(Shown):
    format: SchemaOut | FormatOut


class ResponseOut(Shown):
    """`usage` is left out as long as it is not known."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None
    status: State
    error: None
    incomplete_details: Cut | None
    instructions: str | None
    max_output_tokens: int | None
    model: str
    output: list[ItemOut]
    parallel_tool_calls: bool
    previous_response_id: None
    temperature: float
    top_p: float
    top_logprobs: int
    text: TextConfigOut
    tool_choice: Literal["none", "auto", "required"] | ChosenOut
    tools: list[ToolOut]
    truncation: Literal["disabled"] = "disabled"
    background: bool
    store: bool
    metadata: dict[str, str]
    usage: UsageOut | None = Field(exclude_if=lambda usage: usage is None)

    @classmethod
    def begun(cls, body: ResponseIn, response_id: str, created_at: int) -> "ResponseOut":
        """With what was asked, and nothing answered yet."""
        tools = [ToolOut(name=t.name, description=t.description, parameters=t.parameters, strict=t.strict) for t in body.tools or ()]
        choice = body.tool_choice or "auto"
        sampling = body.sampling()
        return cls(
            id=response_id, created_at=created_at, completed_at=None, status="in_progress", error=None, incomplete_details=None,
            instructions=body.instructions, max_output_tokens=body.max_output_tokens, model=body.model, output=[],
            parallel_tool_calls=body.parallel_tool_calls is not False, previous_response_id=None, temperature=sampling.temperature,
            top_p=sampling.top_p, top_logprobs=body.top_logprobs or 0, text=TextConfigOut(format=_format(body)),
            tool_choice=choice if isinstance(choice, str) else ChosenOut(name=choice.name), tools=tools, background=False, store=False,
            metadata=body.metadata or {}, usage=None,
        )  # fmt: skip


def _format(body: ResponseIn) -> SchemaOut | FormatOut:
    wanted = body.text.format
    if wanted.type == "json_schema":
        return SchemaOut(name=wanted.name, schema_=wanted.schema_, strict=wanted.strict)
    return FormatOut(type=wanted.type)


class Event(Shown):
    type: str
    sequence_number: int


class ResponseEvent(Event):
    response: ResponseOut


class ItemEvent(Event):
    output_index: int
    item: ItemOut


class PartEvent(Event):
    item_id: str
    output_index: int
    content_index: int
    part: TextOut


class TextDelta(Event):
    item_id: str
    output_index: int
    content_index: int
    delta: str
    logprobs: list[TokenLogprob]


class TextDone(Event):
    item_id: str
    output_index: int
    content_index: int
    text: str
    logprobs: list[TokenLogprob]


class ArgumentsDelta(Event):
    item_id: str
    output_index: int
    delta: str


class ArgumentsDone(Event):
    item_id: str
    output_index: int
    name: str
    arguments: str

"""What /v1/responses is asked: a text or items, which become the conversation that chats are asked with."""
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from feinschliff.api.openai.chat import FormatObject, FormatText
from feinschliff.api.openai.sampling import StreamOptions
from feinschliff.api.openai.tools import FunctionIn, NamedChoice, NamedFunction, toolbox
from feinschliff.api.wire import Body
from feinschliff.app.tool_calls import Toolbox
from feinschliff.core.chat import FunctionCall, Message, Role, ToolCall, system
from feinschliff.core.live import ChatPrompt, JsonFormat, LiveSampling
from feinschliff.core.service_errors import RequestError

KEPT = "Responses are not kept here."


class TextItem(Body):
    type: Literal["input_text", "output_text", "text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


Content = str | list[TextItem]


class MessageItem(Body):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class CallItem(Body):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: str | None = None


class ResultItem(Body):
    type: Literal["function_call_output"]
    call_id: str
    output: Content
    id: str | None = None
    status: str | None = None


def _kind(item: object) -> str:
    return str(item.get("type") or "message") if isinstance(item, dict) else "message"


Item = Annotated[
    Annotated[MessageItem, Tag("message")] | Annotated[CallItem, Tag("function_call")] | Annotated[ResultItem, Tag("function_call_output")],
    Discriminator(_kind),
]


class FormatSchemaIn(Body):
    type: Literal["json_schema"]
    name: str
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextIn(Body):
    format: Annotated[FormatText | FormatObject | FormatSchemaIn, Field(discriminator="type")] = FormatText(type="text")
    verbosity: None = None


class FlatTool(FunctionIn):
    """A function as this path writes it. `shown` is the same in the form that chat templates know."""

    type: Literal["function"]
    shown: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _form(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        function = {k: v for k, v in given.items() if k not in ("type", "strict") and v is not None}
        return {**given, "shown": {"type": "function", "function": function}}


class FlatChoice(Body):
    type: Literal["function"]
    name: str


class ResponseIn(Body):
    """Fields after the empty line are taken and change nothing here."""

    model: str
    input: str | list[Item]
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_logprobs: int | None = Field(None, ge=0, le=20)
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = None
    text: TextIn = TextIn()
    tools: list[FlatTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | FlatChoice | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    metadata: dict[str, str] | None = None
    truncation: Literal["disabled"] | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    background: bool | None = None

    stream_options: StreamOptions | None = None
    store: bool | None = None
    user: str | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    def check(self) -> None:
        """Raises RequestError for what would need responses to be kept."""
        hint = "Send the whole conversation as input."
        if self.previous_response_id is not None:
            raise RequestError(KEPT, param="previous_response_id", hint=hint)
        if self.conversation is not None:
            raise RequestError(KEPT, param="conversation", hint=hint)
        if self.background:
            raise RequestError(KEPT, param="background", hint="Wait for the answer, or stream it.")

    @property
    def logprobs(self) -> int | None:
        """How many alternatives are wanted beside each token; None for no log-probabilities."""
        wanted = self.top_logprobs or "message.output_text.logprobs" in (self.include or ())
        return (self.top_logprobs or 0) if wanted else None

    def sampling(self) -> LiveSampling:
        temperature, top_p = (1.0 if value is None else value for value in (self.temperature, self.top_p))
        return LiveSampling(max_tokens=self.max_output_tokens, temperature=temperature, top_p=top_p, logprobs=self.logprobs)

    def format(self) -> JsonFormat | None:
        match self.text.format:
            case FormatObject():
                return JsonFormat()
            case FormatSchemaIn(schema_=schema):
                return JsonFormat.model_validate({"schema": schema or {"type": "object"}})
            case FormatText():
                return None

    def toolbox(self) -> Toolbox | None:
        """Raises RequestError for a choice that cannot be met, or together with a format."""
        choice = self.tool_choice
        if isinstance(choice, FlatChoice):
            choice = NamedChoice(type="function", function=NamedFunction(name=choice.name))
        tools = self.tools or ()
        box = toolbox(tools, [t.shown for t in tools], choice, self.parallel_tool_calls)
        if box is not None and box.choice != "none" and self.format() is not None:
            raise RequestError("A format together with tools is not supported.", param="text.format", hint="Set tool_choice to 'none'.")
        return box

    def prompt(self) -> ChatPrompt:
        """Raises RequestError where there is nothing to answer."""
        messages = [system(self.instructions)] if self.instructions else []
        items = [MessageItem(role="user", content=self.input)] if isinstance(self.input, str) else self.input
        if not items:
            raise RequestError("There is no input.", param="input")
        for item in items:
            match item:
                case MessageItem():
                    messages.append(_message(item.role, item.content))
                case ResultItem():
                    messages.append(_message("tool", item.output, tool_call_id=item.call_id))
                case CallItem():
                    last = messages.pop() if messages and messages[-1].role == "assistant" else Message(role="assistant")
                    call = ToolCall(id=item.call_id, function=FunctionCall(name=item.name, arguments=item.arguments))
                    messages.append(last.model_copy(update={"tool_calls": (*(last.tool_calls or ()), call)}))
        return ChatPrompt(messages=tuple(messages))


def _message(role: Role, content: Content, tool_call_id: str | None = None) -> Message:
    text = content if isinstance(content, str) else "".join(part.text for part in content)
    return Message(role=role, content=text, tool_call_id=tool_call_id)

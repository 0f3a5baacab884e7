"""/v1/chat/completions."""
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from feinschliff.api.access import Reader, ServiceOf
from feinschliff.api.openai.sampling import SamplingIn, UsageOut, events, now, while_connected
from feinschliff.api.openai.tools import CallChunk, CallOut, ToolChoice, ToolIn, new_call_id, toolbox
from feinschliff.api.wire import Body, Shown
from feinschliff.app import answering as use
from feinschliff.app.service import new_id
from feinschliff.app.tool_calls import Called, Heard, Toolbox, tooled
from feinschliff.core.chat import Message, ToolCall
from feinschliff.core.live import (
    ChatPrompt,
    Completed,
    Ended,
    JsonFormat,
    Piece,
    ScoredToken,
    Submit,
    TokenText,
)
from feinschliff.core.service_errors import RequestError

router = APIRouter(tags=["inference"])


class TextPart(Body):
    type: Literal["text"]
    text: str


class MessageIn(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None

    def message(self) -> Message:
        text = "".join(part.text for part in self.content) if isinstance(self.content, list) else self.content
        calls = tuple(self.tool_calls) if self.tool_calls else None
        return Message(role=self.role, content=text, name=self.name, tool_calls=calls, tool_call_id=self.tool_call_id)


class JsonSchema(Body):
    name: str
    description: str | None = None
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")
    strict: bool | None = None


class FormatText(Body):
    type: Literal["text"]


class FormatObject(Body):
    type: Literal["json_object"]


class FormatSchema(Body):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class ChatIn(SamplingIn):
    messages: list[MessageIn] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=0)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: Annotated[FormatText | FormatObject | FormatSchema, Field(discriminator="type")] | None = None
    tools: list[ToolIn] | None = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None

    def toolbox(self) -> Toolbox | None:
        """Raises RequestError for a choice that cannot be met, or together with a format."""
        box = toolbox([t.function for t in self.tools or ()], [t.given for t in self.tools or ()], self.tool_choice, self.parallel_tool_calls)
        if box is not None and box.choice != "none" and self._format() is not None:
            raise RequestError(
                "A response_format together with tools is not supported.", param="response_format",
                hint="Leave it out, or set tool_choice to 'none'.",
            )  # fmt: skip
        return box

    def prompt(self) -> ChatPrompt:
        return ChatPrompt(messages=tuple(m.message() for m in self.messages))

    def submit(self) -> Submit:
        """Raises RequestError for what is not done here."""
        if self.top_logprobs is not None and not self.logprobs:
            raise RequestError("top_logprobs needs logprobs to be true.", param="top_logprobs")
        most = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return Submit(
            id=new_id("chatcmpl-"), prompt=self.prompt(), n=self.n or 1,
            sampling=self.sampling(most, (self.top_logprobs or 0) if self.logprobs else None), format=self._format(),
        )  # fmt: skip

    def _format(self) -> JsonFormat | None:
        match self.response_format:
            case FormatObject():
                return JsonFormat()
            case FormatSchema(json_schema=wanted):
                return JsonFormat.model_validate({"schema": wanted.schema_ or {"type": "object"}})
            case _:
                return None


class TopLogprob(Shown):
    token: str
    logprob: float
    bytes: list[int]

    @classmethod
    def of(cls, token: TokenText) -> "TopLogprob":
        return cls(token=token.text, logprob=-9999.0 if token.logprob is None else token.logprob, bytes=list(token.raw))


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class Logprobs(Shown):
    content: list[TokenLogprob]
    refusal: None

    @classmethod
    def of(cls, tokens: Sequence[ScoredToken], n_top: int) -> "Logprobs":
        shown = [TokenLogprob(**dict(TopLogprob.of(t)), top_logprobs=[TopLogprob.of(x) for x in t.top[:n_top]]) for t in tokens]
        return cls(content=shown, refusal=None)


class MessageOut(Shown):
    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None


class CallingMessageOut(MessageOut):
    tool_calls: list[CallOut]


class ChoiceOut(Shown):
    index: int
    message: CallingMessageOut | MessageOut
    finish_reason: str
    logprobs: Logprobs | None

    @classmethod
    def of(cls, index: int, choice: use.Choice, body: ChatIn) -> "ChoiceOut":
        message = MessageOut(content=choice.text, refusal=None)
        if choice.calls:
            calls = [CallOut(id=new_call_id(), function=call) for call in choice.calls]
            message = CallingMessageOut(content=choice.text or None, refusal=None, tool_calls=calls)
        return cls(index=index, message=message, finish_reason=choice.finish_reason, logprobs=_logprobs(choice.tokens, body))


class ChatOut(Shown):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChoiceOut]
    usage: UsageOut


class CallDelta(Shown):
    tool_calls: list[CallChunk]


class ChunkChoice(Shown):
    index: int
    delta: dict[str, str | None] | CallDelta
    finish_reason: str | None
    logprobs: Logprobs | None


class ChunkOut(Shown):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: UsageOut | None
    """Sent where it was asked for; the last chunk's is not null."""


@router.post("/chat/completions", response_model=ChatOut)
async def chat(body: ChatIn, request: Request, service: ServiceOf, caller: Reader) -> Response | ChatOut:
    """Answer a chat. Every base model and every tuned one answers by its name; it is loaded when first asked."""
    submit, box = body.submit(), body.toolbox()
    model = await run_in_threadpool(use.answering, service, caller, body.model)
    asked = await run_in_threadpool(tooled, model.base, submit, body.prompt(), box)
    if body.stream:
        answers = await use.begin(service, model, asked.request, asked.new_reader)
        return events(_chunks(body, submit.id, answers), counted=body.counts_in_stream)
    ((choices, counts),) = await while_connected(request, use.all_whole(service, model, [asked.request], asked.new_reader))
    shown = [ChoiceOut.of(i, choice, body) for i, choice in enumerate(choices)]
    return ChatOut(id=submit.id, created=now(), model=body.model, choices=shown, usage=UsageOut.of(counts))


async def _chunks(body: ChatIn, answer_id: str, answers: AsyncGenerator[Heard, None]) -> AsyncGenerator[BaseModel, None]:
    """Each choice begins with its role and ends with its reason."""
    begun = set[int]()
    chunk = partial(ChunkOut, id=answer_id, created=now(), model=body.model)
    async with aclosing(answers):
        async for event in answers:
            if isinstance(event, Completed):
                if body.counts_in_stream:
                    yield chunk(choices=[], usage=UsageOut.of(event))
                continue
            if event.index not in begun:
                begun.add(event.index)
                first = {"role": "assistant", "content": None if isinstance(event, Called) else ""}
                yield chunk(choices=[ChunkChoice(index=event.index, delta=first, finish_reason=None, logprobs=None)], usage=None)
            yield chunk(choices=[_chunk_choice(event, body)], usage=None)


def _chunk_choice(event: Piece | Called | Ended, body: ChatIn) -> ChunkChoice:
    match event:
        case Ended():
            return ChunkChoice(index=event.index, delta={}, finish_reason=event.finish_reason, logprobs=None)
        case Piece():
            delta = {"content": event.text}
        case Called():
            delta = CallDelta(tool_calls=[CallChunk(index=event.number, id=new_call_id(), function=event.call)])
    return ChunkChoice(index=event.index, delta=delta, finish_reason=None, logprobs=_logprobs(event.tokens, body))


def _logprobs(tokens: Sequence[ScoredToken], body: ChatIn) -> Logprobs | None:
    return Logprobs.of(tokens, body.top_logprobs or 0) if body.logprobs else None

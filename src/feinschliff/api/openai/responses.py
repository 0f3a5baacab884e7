"""/v1/responses: one answer as a list of items, whole or as typed events. Nothing of it is kept."""
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from feinschliff.api.access import Reader, ServiceOf
from feinschliff.api.openai import responses_out as out
from feinschliff.api.openai.chat import Logprobs, TokenLogprob
from feinschliff.api.openai.responses_in import ResponseIn
from feinschliff.api.openai.sampling import now, while_connected
from feinschliff.api.openai.tools import new_call_id
from feinschliff.app import answering as use
from feinschliff.app.service import new_id
from feinschliff.app.tool_calls import Called, Heard, tooled
from feinschliff.core.live import Completed, Ended, Piece, Submit

router = APIRouter(tags=["inference"])


@router.post("/responses", response_model=out.ResponseOut)
async def respond(body: ResponseIn, request: Request, service: ServiceOf, caller: Reader) -> Response | out.ResponseOut:
    """Answer a text or a list of items."""
    body.check()
    prompt, box = body.prompt(), body.toolbox()
    submit = Submit(id=new_id("resp_"), prompt=prompt, sampling=body.sampling(), format=body.format())
    model = await run_in_threadpool(use.answering, service, caller, body.model)
    asked = await run_in_threadpool(tooled, model.base, submit, prompt, box)
    if body.stream:
        answers = await use.begin(service, model, asked.request, asked.new_reader)
        return StreamingResponse(_lines(body, submit.id, answers), media_type="text/event-stream", headers={"cache-control": "no-cache"})

    async def whole() -> out.ResponseOut:
        told = _Telling(body, submit.id)
        async with aclosing(await use.begin(service, model, asked.request, asked.new_reader)) as answers:
            async for event in answers:
                told.all(event)
        return told.response

    return await while_connected(request, whole())


async def _lines(body: ResponseIn, response_id: str, answers: AsyncGenerator[Heard, None]) -> AsyncGenerator[str, None]:
    told = _Telling(body, response_id)
    for event in told.begin():
        yield _line(event)
    async with aclosing(answers):
        async for answer in answers:
            for event in told.hear(answer):
                yield _line(event)


def _line(event: out.Event) -> str:
    return f"event: {event.type}\ndata: {event.model_dump_json(by_alias=True)}\n\n"


class _Telling:
    """The engine's events as this path's: items that begin, grow and end. `response` is how it stands."""

    def __init__(self, body: ResponseIn, response_id: str) -> None:
        self._n_told = 0
        self._n_top = body.logprobs
        self._message: out.MessageOut | None = None  # the one that grows
        self._call: Called | None = None  # the last one, which is not told until it is known whether it was cut
        self.response = out.ResponseOut.begun(body, response_id, now())

    def begin(self) -> Iterator[out.Event]:
        for kind in ("response.created", "response.in_progress"):
            yield out.ResponseEvent(type=kind, sequence_number=self._next(), response=self.response)

    def all(self, event: Heard) -> None:
        """Hear what nobody is told of on the way."""
        for _ in self.hear(event):
            pass

    def hear(self, event: Heard) -> Iterator[out.Event]:
        match event:
            case Piece():
                yield from self._text(event)
            case Called():
                yield from self._settle("completed")
                self._call = event
            case Ended():
                state = "incomplete" if event.finish_reason == "length" else "completed"
                if self._message is None and self._call is None and not self.response.output:
                    yield from self._open_message()
                yield from self._settle(state)
                cut = out.Cut() if state == "incomplete" else None
                self.response = self.response.model_copy(update={"status": state, "incomplete_details": cut})
            case Completed():
                ended = now() if self.response.status == "completed" else None
                self.response = self.response.model_copy(update={"usage": out.UsageOut.of(event), "completed_at": ended})
                kind = f"response.{self.response.status}"
                yield out.ResponseEvent(type=kind, sequence_number=self._next(), response=self.response)

    @property
    def _at(self) -> int:
        return len(self.response.output)

    def _next(self) -> int:
        self._n_told += 1
        return self._n_told - 1

    def _open_message(self) -> Iterator[out.Event]:
        message = out.MessageOut(id=new_id("msg_"), status="in_progress", content=[])
        yield out.ItemEvent(type="response.output_item.added", sequence_number=self._next(), output_index=self._at, item=message)
        part = out.TextOut(text="", annotations=[], logprobs=[])
        self._message = message.model_copy(update={"content": [part]})
        yield self._part("response.content_part.added", message.id, part)

    def _part(self, kind: str, item: str, part: out.TextOut) -> out.Event:
        return out.PartEvent(type=kind, sequence_number=self._next(), item_id=item, output_index=self._at, content_index=0, part=part)

    def _text(self, piece: Piece) -> Iterator[out.Event]:
        if not piece.text and (self._call is not None or self.response.output):
            return  # tokens after a call, which have no text
        if self._message is None:
            yield from self._open_message()
        message = self._message
        if message is None:
            return
        logprobs: list[TokenLogprob] = [] if self._n_top is None else Logprobs.of(piece.tokens, self._n_top).content
        (part,) = message.content
        part = part.model_copy(update={"text": part.text + piece.text, "logprobs": part.logprobs + logprobs})
        self._message = message.model_copy(update={"content": [part]})
        yield out.TextDelta(
            type="response.output_text.delta", sequence_number=self._next(), item_id=message.id, output_index=self._at, content_index=0,
            delta=piece.text, logprobs=logprobs,
        )  # fmt: skip

    def _settle(self, state: out.State) -> Iterator[out.Event]:
        """End what is under way, message or call."""
        if self._message is not None:
            message, self._message = self._message, None
            (part,) = message.content
            yield out.TextDone(
                type="response.output_text.done", sequence_number=self._next(), item_id=message.id, output_index=self._at, content_index=0,
                text=part.text, logprobs=part.logprobs,
            )  # fmt: skip
            yield self._part("response.content_part.done", message.id, part)
            yield self._ended(message.model_copy(update={"status": state}))
        if self._call is not None:
            called, self._call = self._call, None
            yield from self._told_call(called, state)

    def _told_call(self, called: Called, state: out.State) -> Iterator[out.Event]:
        name, arguments, at = called.call.name, called.call.arguments, self._at
        call = out.CallOut(id=new_id("fc_"), call_id=new_call_id(), name=name, arguments="", status="in_progress")
        yield out.ItemEvent(type="response.output_item.added", sequence_number=self._next(), output_index=at, item=call)
        kind = "response.function_call_arguments"
        yield out.ArgumentsDelta(type=f"{kind}.delta", sequence_number=self._next(), item_id=call.id, output_index=at, delta=arguments)
        yield out.ArgumentsDone(
            type=f"{kind}.done", sequence_number=self._next(), item_id=call.id, output_index=at, name=name, arguments=arguments
        )
        yield self._ended(call.model_copy(update={"arguments": arguments, "status": state}))

    def _ended(self, item: out.ItemOut) -> out.Event:
        event = out.ItemEvent(type="response.output_item.done", sequence_number=self._next(), output_index=self._at, item=item)
        self.response = self.response.model_copy(update={"output": [*self.response.output, item]})
        return event

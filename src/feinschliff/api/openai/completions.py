"""/v1/completions: text and token-id prompts, with the log-probabilities that evaluation harnesses read."""
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from feinschliff.api.access import Reader, ServiceOf
from feinschliff.api.openai.sampling import SamplingIn, UsageOut, events, now, while_connected
from feinschliff.api.wire import Shown
from feinschliff.app import answering as use
from feinschliff.app.service import new_id
from feinschliff.app.tool_calls import Heard
from feinschliff.core.live import (
    Completed,
    Ended,
    Piece,
    ScoredToken,
    Submit,
    TextPrompt,
    TokenPrompt,
    TokenText,
)
from feinschliff.core.service_errors import RequestError

router = APIRouter(tags=["inference"])
USUAL_TOKENS = 16  # where max_tokens is not given, as OpenAI documents it


class CompletionIn(SamplingIn):
    prompt: str | list[str] | list[int] | list[list[int]]
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    best_of: int | None = None
    suffix: str | None = None

    def submits(self) -> list[Submit]:
        """One for each prompt. Raises RequestError for what is not done here."""
        if self.suffix:
            raise RequestError("Insertion before a suffix is not supported.", param="suffix")
        if self.best_of not in (None, self.n or 1):
            raise RequestError("best_of other than n is not supported.", param="best_of", hint="Ask for n answers and choose.")
        most = USUAL_TOKENS if self.max_tokens is None else self.max_tokens
        if (prompts := self._prompts()) and len(prompts) > 1 and self.stream:
            raise RequestError("A stream is of one prompt.", param="prompt", hint="Send one request for each prompt.")
        return [
            Submit(id=new_id("cmpl-"), prompt=p, n=self.n or 1, sampling=self.sampling(most, self.logprobs), echo=bool(self.echo))
            for p in prompts
        ]

    def _prompts(self) -> list[TextPrompt | TokenPrompt]:
        if isinstance(self.prompt, str):
            return [TextPrompt(text=self.prompt)]
        several: list[TextPrompt | TokenPrompt] = []
        tokens: list[int] = []
        for item in self.prompt:
            match item:
                case str():
                    several.append(TextPrompt(text=item))
                case int():
                    tokens.append(item)
                case _:
                    several.append(TokenPrompt(tokens=tuple(item)))
        if tokens:
            several.append(TokenPrompt(tokens=tuple(tokens)))
        if not several:
            raise RequestError("There is no prompt.", param="prompt")
        return several


class TextLogprobs(Shown):
    """Parallel lists. An echoed prompt's first token has nothing before it that could predict it: null, as OpenAI answers."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]

    @classmethod
    def of(cls, tokens: Sequence[ScoredToken], offset: int = 0) -> "TextLogprobs":
        offsets: list[int] = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token.text)
        tops = [{_named(x): x.logprob for x in t.top if x.logprob is not None} if t.logprob is not None else None for t in tokens]
        for token, top in zip(tokens, tops, strict=True):
            if top is not None and token.logprob is not None:
                top[_named(token)] = token.logprob  # the same number, so that "is it the likeliest?" can be asked by equality
        return cls(
            tokens=[_named(t) for t in tokens], token_logprobs=[t.logprob for t in tokens], top_logprobs=tops, text_offset=offsets
        )


def _named(token: TokenText) -> str:
    """Parts of characters all have the same text: told apart by their bytes, in OpenAI's way of writing them."""
    return token.text if token.text.encode() == bytes(token.raw) else "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.raw)


class TextChoice(Shown):
    index: int
    text: str
    finish_reason: str | None
    logprobs: TextLogprobs | None


class CompletionOut(Shown):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: UsageOut | None


@router.post("/completions", response_model=CompletionOut)
async def complete(body: CompletionIn, request: Request, service: ServiceOf, caller: Reader) -> Response | CompletionOut:
    """Go on with a text. Several prompts are answered together, their choices one after the other."""
    submits = body.submits()
    model = await run_in_threadpool(use.answering, service, caller, body.model)
    if body.stream:
        return events(_chunks(body, submits[0], await use.begin(service, model, submits[0])), counted=body.counts_in_stream)
    answers = await while_connected(request, use.all_whole(service, model, submits))
    choices = [choice for several, _ in answers for choice in several]
    shown = [
        TextChoice(
            index=i, text=c.text, finish_reason=c.finish_reason, logprobs=None if body.logprobs is None else TextLogprobs.of(c.tokens)
        )
        for i, c in enumerate(choices)
    ]
    usage = UsageOut.of(*(counts for _, counts in answers))
    return CompletionOut(id=submits[0].id, created=now(), model=body.model, choices=shown, usage=usage)


async def _chunks(body: CompletionIn, submit: Submit, answers: AsyncGenerator[Heard, None]) -> AsyncGenerator[BaseModel, None]:
    created, offsets = now(), dict[int, int]()

    def chunk(choices: list[TextChoice], usage: UsageOut | None = None) -> CompletionOut:
        return CompletionOut(id=submit.id, created=created, model=body.model, choices=choices, usage=usage)

    async with aclosing(answers):
        async for event in answers:
            match event:
                case Piece():
                    offset = offsets.get(event.index, 0)
                    offsets[event.index] = offset + sum(len(t.text) for t in event.tokens)
                    logprobs = None if body.logprobs is None else TextLogprobs.of(event.tokens, offset)
                    yield chunk([TextChoice(index=event.index, text=event.text, finish_reason=None, logprobs=logprobs)])
                case Ended():
                    yield chunk([TextChoice(index=event.index, text="", finish_reason=event.finish_reason, logprobs=None)])
                case Completed():
                    if body.counts_in_stream:
                        yield chunk([], UsageOut.of(event))

"""What chat and text completions have in common: how tokens are chosen, counted, and streamed."""
import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, BeforeValidator, Field

from feinschliff.api.wire import Body, Shown
from feinschliff.core.live import Completed, LiveSampling

Result = TypeVar("Result")
LOOK_EVERY_S = 0.5  # whether the client is still there


def _listed(stop: object) -> object:
    return [stop] if isinstance(stop, str) else () if stop is None else stop


Stop = Annotated[list[str], BeforeValidator(_listed), Field(max_length=4)]


class StreamOptions(Body):
    include_usage: bool = False
    include_obfuscation: bool = False


class SamplingIn(Body):
    """Fields after the empty line are taken and change nothing here."""

    model: str
    max_tokens: int | None = Field(None, ge=0)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int | None = Field(None, ge=1, le=128)
    stop: Stop = Field(default_factory=list)
    seed: int | None = None
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[int, float] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @property
    def counts_in_stream(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, max_tokens: int | None, logprobs: int | None) -> LiveSampling:
        return LiveSampling(
            max_tokens=max_tokens, temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p, seed=self.seed, stop=tuple(self.stop),
            frequency_penalty=self.frequency_penalty or 0.0, presence_penalty=self.presence_penalty or 0.0,
            logit_bias=self.logit_bias or {}, logprobs=logprobs,
        )  # fmt: skip


class PromptDetails(Shown):
    cached_tokens: int


class UsageOut(Shown):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails

    @classmethod
    def of(cls, *counts: Completed) -> "UsageOut":
        """Over several prompts of one request."""
        asked, made = sum(c.prompt_tokens for c in counts), sum(c.completion_tokens for c in counts)
        cached = PromptDetails(cached_tokens=sum(c.cached_tokens for c in counts))
        return cls(prompt_tokens=asked, completion_tokens=made, total_tokens=asked + made, prompt_tokens_details=cached)


def now() -> int:
    """Unix seconds."""
    return int(time.time())


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled where the client leaves: nobody computes for nobody."""
    task = asyncio.create_task(work)
    try:
        while not (await asyncio.wait({task}, timeout=LOOK_EVERY_S))[0]:
            if await request.is_disconnected():
                task.cancel()
        return await task
    finally:
        task.cancel()


def events(chunks: AsyncIterator[BaseModel], *, counted: bool) -> StreamingResponse:
    """Server-sent events, as OpenAI ends them. Chunks have the field `usage` only where it was asked for."""
    left_out = None if counted else {"usage"}

    async def lines() -> AsyncGenerator[str, None]:
        async for chunk in chunks:
            yield f"data: {chunk.model_dump_json(exclude=left_out)}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"cache-control": "no-cache"})

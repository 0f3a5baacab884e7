"""Who answers under a model's name: a base model's engine, with the adapter of a tuned model."""
import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from feinschliff.app.deployments import model_of
from feinschliff.app.lineage import check_here
from feinschliff.app.service import Service
from feinschliff.app.tool_calls import Called, Heard, NewReader, heard
from feinschliff.app.usage import Answered, Asked, count, counted
from feinschliff.core.chat import FunctionCall
from feinschliff.core.errors import ModelUnavailable
from feinschliff.core.live import Completed, Ended, FinishReason, Piece, ScoredToken, Submit
from feinschliff.core.service import Caller, ModelName
from feinschliff.core.service_errors import no_model
from feinschliff.providers.live_program import Answer
from feinschliff.store import jobs

REST_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Answering:
    """A model that answers: its base's folder, and its adapter's where it is a tuned one."""

    base: Path
    adapter: Path | None
    asked: Asked


@dataclass(slots=True)
class Choice:
    """One whole answer."""

    text: str = ""
    calls: list[FunctionCall] = field(default_factory=list)
    tokens: list[ScoredToken] = field(default_factory=list)
    finish_reason: FinishReason = "stop"


def answering(service: Service, caller: Caller, name: str) -> Answering:
    """Raises NotFound, RequestError for a model that a provider keeps. `name` is a deployment's or a model's. Weights that are not there yet are brought, which may take minutes."""
    name = model_of(service, caller, name)
    with service.database.read() as db:
        row = jobs.find_model(db, caller.project, name)
    if row is not None:
        check_here(service, row)
    try:
        base = service.offered.find(name if row is None else row.base)
    except ModelUnavailable as error:
        raise no_model(error) from None
    adapter = None if row is None else service.settings.data_dir / row.folder
    return Answering(service.offered.folder(ModelName(base)), adapter, Asked(caller.project, base if row is None else name))


async def begin(
    service: Service, model: Answering, request: Submit, new_reader: NewReader | None = None
) -> AsyncGenerator[Heard, None]:
    """The answer from its first piece on, searched for calls by readers where there are any. What the engine refuses is raised
    here, before anything has been sent."""
    told = service.live.answers(model.base, request.model_copy(update={"adapter": None if model.adapter is None else str(model.adapter)}))
    told = counted(service, model.asked, told)
    first = await anext(told)
    answers = _with(first, told)
    return heard(answers, new_reader) if new_reader else answers


async def whole(answers: AsyncIterator[Heard], n: int) -> tuple[list[Choice], Completed]:
    """All `n` choices, and what they cost."""
    choices = [Choice() for _ in range(n)]
    async for event in answers:
        match event:
            case Piece():
                choices[event.index].text += event.text
                choices[event.index].tokens += event.tokens
            case Called():
                choices[event.index].calls.append(event.call)
                choices[event.index].tokens += event.tokens
            case Ended():
                choices[event.index].finish_reason = event.finish_reason
            case Completed():
                return choices, event
    raise RuntimeError("the engine ended an answer without completing it")


async def all_whole(
    service: Service, model: Answering, requests: Sequence[Submit], new_reader: NewReader | None = None
) -> list[tuple[list[Choice], Completed]]:
    """Several prompts at once; where one fails, or the caller is cancelled, the work on all of them stops."""

    async def one(request: Submit) -> tuple[list[Choice], Completed]:
        async with aclosing(await begin(service, model, request, new_reader)) as answers:
            return await whole(answers, request.n)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(request)) for request in requests]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


def embed(service: Service, caller: Caller, name: str, texts: Sequence[str]) -> tuple[list[tuple[float, ...]], int]:
    """Vectors of an embedding model, and the number of tokens. Raises NotFound."""
    model = model_of(service, caller, name)
    try:
        folder = service.offered.embedder(model)
    except ModelUnavailable as error:
        raise no_model(error) from None
    vectors, n_tokens = service.embedders(folder, texts)
    count(service, Asked(caller.project, model), Answered(requests=1, prompt_tokens=n_tokens))
    return vectors, n_tokens


async def rest_now_and_then(service: Service) -> None:
    """End engines that nobody asks, as long as the server runs."""
    while True:
        await asyncio.sleep(REST_EVERY_S)
        await service.live.rest()


async def _with(first: Answer, rest: AsyncGenerator[Answer, None]) -> AsyncGenerator[Answer, None]:
    async with aclosing(rest):
        yield first
        async for answer in rest:
            yield answer

"""/openai/deployments/{deployment}/…: the deployment's name is the model's; the body need not say it again."""
from typing import Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from feinschliff.api.access import Reader, ServiceOf
from feinschliff.api.openai import chat, completions, embeddings

router = APIRouter(prefix="/openai/deployments/{deployment}", tags=["azure"])
Asked = TypeVar("Asked", bound=BaseModel)
VERSION = Query(alias="api-version", description="Any; Azure's clients always send one.")


@router.post("/chat/completions", response_model=chat.ChatOut)
async def chat_completions(
    deployment: str, body: dict[str, Any], request: Request, service: ServiceOf, caller: Reader, version: str = VERSION
) -> Response | chat.ChatOut:
    return await chat.chat(_asked(chat.ChatIn, body, deployment), request, service, caller)


@router.post("/completions", response_model=completions.CompletionOut)
async def text_completions(
    deployment: str, body: dict[str, Any], request: Request, service: ServiceOf, caller: Reader, version: str = VERSION
) -> Response | completions.CompletionOut:
    return await completions.complete(_asked(completions.CompletionIn, body, deployment), request, service, caller)


@router.post("/embeddings")
async def text_embeddings(
    deployment: str, body: dict[str, Any], service: ServiceOf, caller: Reader, version: str = VERSION
) -> embeddings.EmbeddingsOut:
    asked = _asked(embeddings.EmbeddingIn, body, deployment)
    return await run_in_threadpool(embeddings.create_embeddings, asked, service, caller)


def _asked(kind: type[Asked], body: dict[str, Any], deployment: str) -> Asked:
    try:
        return kind.model_validate({**body, "model": deployment})
    except ValidationError as error:
        raise RequestValidationError([{**e, "loc": ("body", *e["loc"])} for e in error.errors()]) from None

"""/openai/deployments/{deployment}/…: the deployment of that name answers, or the model of that name where there is none."""
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from feinschliff.api.access import Reader, ServiceOf
from feinschliff.api.azure.dated import VERSIONED
from feinschliff.api.openai import chat, completions, embeddings
from feinschliff.app.deployments import model_of
from feinschliff.app.models import get_model
from feinschliff.app.service import Service
from feinschliff.core.service import Caller
from feinschliff.core.service_errors import NotFound

router = APIRouter(prefix="/openai/deployments/{deployment}", tags=["azure"], dependencies=[VERSIONED])
Asked = TypeVar("Asked", bound=BaseModel)


@router.post("/chat/completions", response_model=chat.ChatOut)
async def chat_completions(
    deployment: str, body: dict[str, Any], request: Request, service: ServiceOf, caller: Reader
) -> Response | chat.ChatOut:
    model = await run_in_threadpool(_meant, service, caller, deployment)
    return await chat.chat(_asked(chat.ChatIn, body, model), request, service, caller)


@router.post("/completions", response_model=completions.CompletionOut)
async def text_completions(
    deployment: str, body: dict[str, Any], request: Request, service: ServiceOf, caller: Reader
) -> Response | completions.CompletionOut:
    model = await run_in_threadpool(_meant, service, caller, deployment)
    return await completions.complete(_asked(completions.CompletionIn, body, model), request, service, caller)


@router.post("/embeddings")
def text_embeddings(
    deployment: str, body: dict[str, Any], service: ServiceOf, caller: Reader
) -> embeddings.EmbeddingsOut:
    model = _meant(service, caller, deployment)
    return embeddings.create_embeddings(_asked(embeddings.EmbeddingIn, body, model), service, caller)


def _meant(service: Service, caller: Caller, deployment: str) -> str:
    """The model behind it, which answers name, as Azure's do. Raises NotFound."""
    model = model_of(service, caller, deployment)
    try:
        get_model(service, caller, model)
    except NotFound as error:
        raise NotFound(
            f"The API deployment {deployment!r} does not exist, and no model of that name.", code="DeploymentNotFound",
            hint=f"Deploy a model under this name. {error.hint}".strip(),
        ) from None  # fmt: skip
    return model


def _asked(kind: type[Asked], body: dict[str, Any], model: str) -> Asked:
    try:
        return kind.model_validate({**body, "model": model})
    except ValidationError as error:
        raise RequestValidationError([{**e, "loc": ("body", *e["loc"])} for e in error.errors()]) from None

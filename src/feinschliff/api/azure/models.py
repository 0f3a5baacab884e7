"""/openai/models: what OpenAI says of a model, and what Azure does."""
from collections.abc import Mapping
from typing import Literal

from fastapi import APIRouter

from feinschliff.api.access import Reader, ServiceOf, Writer
from feinschliff.api.azure.dated import VERSIONED
from feinschliff.api.openai import models
from feinschliff.api.openai.models import ModelDeleted
from feinschliff.api.wire import Shown
from feinschliff.app import models as use
from feinschliff.app.service import Service, today
from feinschliff.catalog.azure_form import DataPlaneModel, data_plane
from feinschliff.core.errors import ModelUnavailable
from feinschliff.core.service import ModelName
from feinschliff.store.tables import ModelRow

router = APIRouter(prefix="/openai/models", tags=["azure"], dependencies=[VERSIONED])


class AzureModelOut(models.ModelOut):
    """`model` and `fine_tune` are a tuned model's base and job."""

    created_at: int
    status: Literal["succeeded"] = "succeeded"
    model: str | None
    fine_tune: str | None
    capabilities: Mapping[str, bool]
    lifecycle_status: str
    deprecation: Mapping[str, int]
    """Unix seconds."""


class AzureModelList(Shown):
    object: Literal["list"] = "list"
    data: list[AzureModelOut]


@router.get("")
def list_models(service: ServiceOf, caller: Reader) -> AzureModelList:
    """Base models first, then the project's own, oldest first."""
    tuned = {row.name: row for row in use.tuned_models(service, caller)}
    return AzureModelList(data=[_shown(service, model, tuned.get(model.name)) for model in use.list_models(service, caller)])


@router.get("/{model}")
def retrieve_model(model: str, service: ServiceOf, caller: Reader) -> AzureModelOut:
    found = use.get_model(service, caller, model)
    return _shown(service, found, next((row for row in use.tuned_models(service, caller) if row.name == found.name), None))


@router.delete("/{model}")
def delete_model(model: str, service: ServiceOf, caller: Writer) -> ModelDeleted:
    return models.delete_model(model, service, caller)


def _shown(service: Service, model: use.ListedModel, tuned: ModelRow | None) -> AzureModelOut:
    base = _base(service, model.name if tuned is None else tuned.base)
    return AzureModelOut(
        **dict(models.ModelOut.of(model)), created_at=model.created_at, model=None if tuned is None else tuned.base,
        fine_tune=None if tuned is None else tuned.job_id,
        capabilities={} if base is None else {**base.capabilities},
        lifecycle_status="deprecated" if base is None else base.lifecycle_status,
        deprecation={} if base is None else {**base.deprecation},
    )  # fmt: skip


def _base(service: Service, name: str) -> DataPlaneModel | None:
    """None where it is no longer on offer, and what was tuned from it cannot answer."""
    try:
        return data_plane(service.offered.described(ModelName(name)), today(service))
    except ModelUnavailable:
        return None

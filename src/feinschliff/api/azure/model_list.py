"""The management plane's lists of models (Microsoft.CognitiveServices: Models - List, Accounts - List Models).

A location lists the catalogue's models that are tuned there, an account what this service itself offers and what was tuned in it.
"""
from fastapi import APIRouter

from feinschliff.api.access import Reader, ServiceOf
from feinschliff.api.azure.dated import VERSIONED
from feinschliff.api.azure.management import MOST_CAPACITY
from feinschliff.api.wire import Shown
from feinschliff.app.models import tuned_models
from feinschliff.app.service import today
from feinschliff.catalog.azure_form import (
    Capacity,
    ManagedEntry,
    ManagedModel,
    ModelReference,
    ModelSku,
    managed,
)
from feinschliff.catalog.query import Wanted
from feinschliff.core.service import ModelName

COGNITIVE = "/providers/Microsoft.CognitiveServices"
router = APIRouter(prefix="/subscriptions/{subscription}", tags=["azure"], dependencies=[VERSIONED])


DEPLOYED = {
    "skus": tuple(ModelSku(name=name, capacity=Capacity(default=1, maximum=MOST_CAPACITY)) for name in ("Standard", "GlobalStandard", "DeveloperTier")),
    "max_capacity": MOST_CAPACITY,
}  # fmt: skip


class EntryList(Shown):
    """All on one page: there is no `nextLink`."""

    value: list[ManagedEntry]


class ModelList(Shown):
    value: list[ManagedModel]


@router.get(COGNITIVE + "/locations/{location}/models", response_model_exclude_none=True)
def list_of_location(subscription: str, location: str, service: ServiceOf, caller: Reader) -> EntryList:
    """404 for a location where nothing is tuned and which nobody has configured."""
    day = today(service)
    return EntryList(value=[managed(m, day) for m in service.market.listed(Wanted(region=location), day)])


@router.get("/resourceGroups/{group}" + COGNITIVE + "/accounts/{account}/models", response_model_exclude_none=True)
def list_of_account(subscription: str, group: str, account: str, service: ServiceOf, caller: Reader) -> ModelList:
    """Base models first, then the project's tuned ones and their checkpoints."""
    day = today(service)
    bases = {name: managed(service.offered.described(name), day).model.model_copy(update=DEPLOYED) for name in service.offered.all()}
    tuned = [
        bases[ModelName(row.base)].model_copy(update={"name": row.name, "version": "1", "base_model": ModelReference(name=row.base)})
        for row in tuned_models(service, caller)
        if row.base in bases
    ]
    return ModelList(value=[*bases.values(), *tuned])

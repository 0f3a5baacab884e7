"""The management plane's lists of models (Microsoft.CognitiveServices: Models - List, Accounts - List Models).

A location lists the catalogue's models that are tuned there, an account what this service itself offers.
"""
from typing import Annotated

from fastapi import APIRouter, Query

from feinschliff.api.access import Reader, ServiceOf
from feinschliff.api.wire import Shown
from feinschliff.app.service import today
from feinschliff.catalog.azure_form import ManagedEntry, ManagedModel, managed
from feinschliff.catalog.query import Wanted

COGNITIVE = "/providers/Microsoft.CognitiveServices"
router = APIRouter(prefix="/subscriptions/{subscription}", tags=["azure"])
Version = Annotated[str, Query(alias="api-version", description="Any; Azure's clients always send one.")]


class EntryList(Shown):
    """All on one page: there is no `nextLink`."""

    value: list[ManagedEntry]


class ModelList(Shown):
    value: list[ManagedModel]


@router.get(COGNITIVE + "/locations/{location}/models", response_model_exclude_none=True)
def list_of_location(subscription: str, location: str, service: ServiceOf, caller: Reader, version: Version) -> EntryList:
    """404 for a location where nothing is tuned and which nobody has configured."""
    day = today(service)
    return EntryList(value=[managed(m, day) for m in service.market.listed(Wanted(region=location), day)])


@router.get("/resourceGroups/{group}" + COGNITIVE + "/accounts/{account}/models", response_model_exclude_none=True)
def list_of_account(subscription: str, group: str, account: str, service: ServiceOf, caller: Reader, version: Version) -> ModelList:
    day = today(service)
    return ModelList(value=[managed(service.offered.described(name), day).model for name in service.offered.all()])

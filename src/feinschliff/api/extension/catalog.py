"""/v1/catalog: the models that are known and the regions that are configured, with the keys of `feinschliff catalog … --json`."""
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from feinschliff.api.access import Reader, ServiceOf
from feinschliff.api.wire import Shown
from feinschliff.app.service import today
from feinschliff.catalog.machine import this_machine
from feinschliff.catalog.query import ModelView, Task, Wanted, view
from feinschliff.catalog.region_views import RegionView, region_view

router = APIRouter(prefix="/catalog", tags=["catalogue"])


class ModelViews(Shown):
    object: Literal["list"] = "list"
    data: list[ModelView]


class RegionViews(Shown):
    object: Literal["list"] = "list"
    data: list[RegionView]


@router.get("/models")
def list_models(
    service: ServiceOf, caller: Reader,
    region: Annotated[str | None, Query(description="A configured region, or a provider's: Sweden Central, swedencentral …")] = None,
    family: str | None = None,
    task: Task | None = None,
    fits_this_machine: Annotated[bool, Query(description="Only what LoRA can tune on the server's machine.")] = False,
    current: Annotated[bool, Query(description="Leave out what can no longer be tuned anywhere.")] = False,
) -> ModelViews:  # fmt: skip
    """The catalogue's models; `region` is answered with 404 where nobody knows it."""
    day, wanted = today(service), Wanted(region=region, family=family, task=task, current=current)
    here = this_machine(measured=False) if fits_this_machine else None
    return ModelViews(data=[view(m, day) for m in service.market.listed(wanted, day, here)])


@router.get("/regions")
def list_regions(service: ServiceOf, caller: Reader) -> RegionViews:
    """The configured regions. Credentials are not among the keys, only the names of variables that are not set."""
    day, market = today(service), service.market
    return RegionViews(data=[region_view(name, region, market.models, day) for name, region in market.regions.regions.items()])

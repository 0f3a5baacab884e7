"""A region as `catalog regions --json` and the service show it, and the hardware that it has for a job."""
from datetime import date
from typing import Literal, assert_never

from feinschliff.catalog.fit import Hardware
from feinschliff.catalog.machine import this_machine
from feinschliff.catalog.models import Catalog
from feinschliff.catalog.offers import offered
from feinschliff.catalog.regions import (
    Azure,
    Machine,
    OpenAi,
    Quota,
    Ray,
    Region,
    Training,
    keeps_data,
    missing_credential,
)
from feinschliff.core.chat import Wire


class RegionView(Wire):
    """The keys are a promise. No credential is ever in it: `credential_missing` names the environment variable that is not set."""

    name: str
    kind: Literal["machine", "ray", "azure", "openai"]
    location: str | None
    endpoint: str | None
    training: Training | None
    concurrency: int
    quota: Quota
    data_residency: bool
    credential_missing: str | None
    models: tuple[str, ...]  # that a job can be started with today


def region_view(name: str, region: Region, catalog: Catalog, today: date) -> RegionView:
    azure = region if isinstance(region, Azure) else None
    hosted = isinstance(region, Azure | OpenAi)
    return RegionView(
        name=name, kind=region.kind, location=azure.location if azure else None, endpoint=_endpoint(region),
        training=azure.training if azure else None, concurrency=region.concurrency, quota=region.quota,
        data_residency=keeps_data(region), credential_missing=missing_credential(region),
        models=tuple(m.names[1] if m.version and not m.id.endswith(m.version) else m.id
                     for m in catalog.models if offered(m, region) and (not hosted or m.lifecycle.can_be_tuned(today))),
    )  # fmt: skip


def hardware_of(name: str, region: Region) -> Hardware | None:
    """What one job has there; None where its provider takes care of that, or a cluster's file does not say."""
    match region:
        case Machine():
            return this_machine()
        case Ray(memory_gb=gb, teraflops=tera) if gb is not None:
            return Hardware(name=name, memory_bytes=int(gb * 1e9), flops_per_s=tera * 1e12 if tera else None, bf16=region.bf16)
        case Ray() | Azure() | OpenAi():
            return None
        case _:
            assert_never(region)


def _endpoint(region: Region) -> str | None:
    match region:
        case Azure():
            return region.endpoint
        case Ray():
            return region.address
        case OpenAi():
            return region.base_url
        case Machine():
            return None
        case _:
            assert_never(region)

"""Azure Resource Manager's paths for deployments (Microsoft.CognitiveServices: Deployments, 2025-09-01).

The key's project stands for the account: subscription, resource group and account are taken as the path has them, and shown again.
"""
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from feinschliff.api.access import Reader, ServiceOf, Writer
from feinschliff.api.azure.dated import VERSIONED
from feinschliff.app import deployments as use
from feinschliff.app.service import Service
from feinschliff.core.service import Tier
from feinschliff.core.service_errors import NotFound, RequestError
from feinschliff.store.tables import DeploymentRow

ACCOUNT = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.CognitiveServices/accounts/{account}"
router = APIRouter(prefix=ACCOUNT + "/deployments", tags=["azure"], dependencies=[VERSIONED])
MOST_CAPACITY = 1_000_000  # capacity is shown again, and means nothing here
TIERS = {
    "standard": Tier.STANDARD, "globalstandard": Tier.STANDARD, "datazonestandard": Tier.STANDARD,
    "developer": Tier.DEVELOPER, "developertier": Tier.DEVELOPER,
}  # fmt: skip


class _Camel(BaseModel):
    """Fields that are not known are passed over, as Azure does: its clients send settings that have no meaning here."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


class SkuIn(_Camel):
    name: str = Field("Standard", max_length=64)
    capacity: int = Field(1, ge=1, le=MOST_CAPACITY)

    def tier(self) -> Tier:
        """Raises RequestError."""
        tier = TIERS.get(self.name.lower())
        if tier is None:
            raise RequestError(
                f"The SKU {self.name!r} is not offered here.", param="sku.name", hint="Standard, GlobalStandard, DataZoneStandard, DeveloperTier."
            )
        return tier


class ModelIn(_Camel):
    name: str = Field(min_length=1, max_length=400)
    version: str = Field("1", max_length=64)


class PropertiesIn(_Camel):
    model: ModelIn


class DeploymentIn(_Camel):
    sku: SkuIn = SkuIn()
    properties: PropertiesIn
    tags: dict[str, str] = Field(default_factory=dict, max_length=50)


class PatchIn(_Camel):
    sku: SkuIn | None = None
    tags: dict[str, str] | None = Field(None, max_length=50)


class SkuOut(_Camel):
    name: str
    capacity: int


class ModelOut(_Camel):
    format: Literal["OpenAI"] = "OpenAI"
    name: str
    version: str


class PropertiesOut(_Camel):
    model: ModelOut
    provisioning_state: Literal["Succeeded"] = "Succeeded"
    capabilities: dict[str, str]
    current_capacity: int


class SystemData(_Camel):
    """ISO 8601 times."""

    created_at: str
    last_modified_at: str


class DeploymentOut(_Camel):
    id: str
    name: str
    type: Literal["Microsoft.CognitiveServices/accounts/deployments"] = "Microsoft.CognitiveServices/accounts/deployments"
    sku: SkuOut
    properties: PropertiesOut
    system_data: SystemData
    etag: str
    tags: dict[str, str]


class DeploymentList(_Camel):
    """All on one page: there is no `nextLink`."""

    value: list[DeploymentOut]


class Place:
    """The account that a request names. A dependency."""

    def __init__(self, subscription: str, group: str, account: str) -> None:
        self._account = ACCOUNT.format(subscription=subscription, group=group, account=account)

    def shown(self, service: Service, row: DeploymentRow) -> DeploymentOut:
        embeds = row.model in service.offered.embedders()
        return DeploymentOut(
            id=f"{self._account}/deployments/{row.name}", name=row.name, sku=SkuOut(name=row.sku, capacity=row.capacity),
            properties=PropertiesOut(
                model=ModelOut(name=row.model, version=row.version), current_capacity=row.capacity,
                capabilities={"embeddings" if embeds else "chatCompletion": "true"},
            ),
            system_data=SystemData(created_at=_iso(row.created_at), last_modified_at=_iso(row.updated_at)),
            etag=f'"{row.id}-{row.updated_at}"', tags=row.tags,
        )  # fmt: skip


PlaceOf = Annotated[Place, Depends(Place)]
Name = Annotated[str, Path(alias="name")]


@router.put("/{name}", status_code=201, response_model_by_alias=True, responses={200: {"description": "It was there, and has been changed."}})
def put_deployment(
    name: Name, body: DeploymentIn, place: PlaceOf, service: ServiceOf, caller: Writer, response: Response
) -> DeploymentOut:
    """Make or change it. It is ready at once: models are loaded when first asked."""
    model, sku = body.properties.model, body.sku
    put = use.put_deployment(
        service, caller, use.NewDeployment(name, model.name, sku.tier(), sku.name, sku.capacity, model.version, body.tags)
    )
    response.status_code = 201 if put.made else 200
    return place.shown(service, put.row)


@router.patch("/{name}")
def patch_deployment(name: Name, body: PatchIn, place: PlaceOf, service: ServiceOf, caller: Writer) -> DeploymentOut:
    """Change its SKU or its tags."""
    row = use.get_deployment(service, caller, name)
    sku = body.sku or SkuIn(name=row.sku, capacity=row.capacity)
    tags = row.tags if body.tags is None else body.tags
    changed = use.NewDeployment(name, row.model, sku.tier(), sku.name, sku.capacity, row.version, tags)
    return place.shown(service, use.put_deployment(service, caller, changed).row)


@router.get("")
def list_deployments(place: PlaceOf, service: ServiceOf, caller: Reader) -> DeploymentList:
    return DeploymentList(value=[place.shown(service, row) for row in use.all_deployments(service, caller)])


@router.get("/{name}")
def retrieve_deployment(name: Name, place: PlaceOf, service: ServiceOf, caller: Reader) -> DeploymentOut:
    return place.shown(service, use.get_deployment(service, caller, name))


@router.delete("/{name}", response_class=Response, responses={204: {"description": "There was none."}})
def delete_deployment(name: Name, place: PlaceOf, service: ServiceOf, caller: Writer) -> Response:
    """The model stays."""
    try:
        use.delete_deployment(service, caller, name)
    except NotFound:
        return Response(status_code=204)
    return Response(status_code=200)


def _iso(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

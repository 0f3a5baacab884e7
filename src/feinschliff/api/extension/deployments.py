"""/v1/deployments: names under which models answer. OpenAI has no such paths; Azure's are in `api.azure.management`."""
from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from feinschliff.api.access import Reader, ServiceOf, Writer
from feinschliff.api.wire import After, Body, ListingWithEnds, Shown, cursor, with_ends
from feinschliff.app import deployments as use
from feinschliff.core.service import Tier
from feinschliff.store.tables import DeploymentRow

router = APIRouter(prefix="/deployments", tags=["deployments"])
SKU = {Tier.STANDARD: "Standard", Tier.DEVELOPER: "DeveloperTier"}


class DeploymentIn(Body):
    name: str = Field(examples=["assistant"])
    model: str = Field(max_length=400, examples=["ft:smollm2-135m-instruct:local:first:Ab12Cd34"])
    tier: Tier = Tier.STANDARD


class DeploymentOut(Shown):
    id: str
    object: Literal["deployment"] = "deployment"
    name: str
    model: str
    tier: Tier
    status: Literal["succeeded"] = "succeeded"
    created_at: int
    updated_at: int
    called_at: int | None
    """Of the last call, to the minute."""

    @classmethod
    def of(cls, row: DeploymentRow) -> "DeploymentOut":
        return cls(
            id=row.id, name=row.name, model=row.model, tier=Tier(row.tier), created_at=row.created_at, updated_at=row.updated_at,
            called_at=row.called_at,
        )  # fmt: skip


class DeploymentDeleted(Shown):
    id: str
    object: Literal["deployment"] = "deployment"
    deleted: bool


@router.post("")
def create_deployment(body: DeploymentIn, service: ServiceOf, caller: Writer) -> DeploymentOut:
    """Let a base model or a tuned one answer under a name. It is loaded when first asked."""
    new = use.NewDeployment(body.name, body.model, body.tier, SKU[body.tier])
    return DeploymentOut.of(use.put_deployment(service, caller, new, replace=False).row)


@router.get("")
def list_deployments(
    service: ServiceOf, caller: Reader, after: After = None, limit: int = 20, order: str = "desc"
) -> ListingWithEnds[DeploymentOut]:
    page = use.list_deployments(service, caller, cursor(limit, after, order))
    return with_ends([DeploymentOut.of(row) for row in page.rows], has_more=page.has_more)


@router.get("/{name}")
def retrieve_deployment(name: str, service: ServiceOf, caller: Reader) -> DeploymentOut:
    return DeploymentOut.of(use.get_deployment(service, caller, name))


@router.delete("/{name}")
def delete_deployment(name: str, service: ServiceOf, caller: Writer) -> DeploymentDeleted:
    """The model stays."""
    use.delete_deployment(service, caller, name)
    return DeploymentDeleted(id=name, deleted=True)

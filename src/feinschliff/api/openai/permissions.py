"""/v1/fine_tuning/checkpoints/{checkpoint}/permissions: which other projects may use a checkpoint."""
from typing import Literal

from fastapi import APIRouter

from feinschliff.api.access import Admin, ServiceOf
from feinschliff.api.wire import After, Body, ListingWithEnds, Shown, cursor, with_ends
from feinschliff.app import models as use
from feinschliff.store.tables import PermissionRow

router = APIRouter(prefix="/fine_tuning/checkpoints/{checkpoint}/permissions", tags=["fine-tuning"])


class GrantIn(Body):
    project_ids: list[str]


class PermissionOut(Shown):
    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    created_at: int
    project_id: str

    @classmethod
    def of(cls, row: PermissionRow) -> "PermissionOut":
        return cls(id=row.id, created_at=row.created_at, project_id=row.grantee)


class PermissionDeleted(Shown):
    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    deleted: bool


@router.post("")
def create_permissions(checkpoint: str, body: GrantIn, service: ServiceOf, caller: Admin) -> ListingWithEnds[PermissionOut]:
    return with_ends([PermissionOut.of(row) for row in use.grant(service, caller, checkpoint, body.project_ids)], has_more=False)


@router.get("")
def list_permissions(
    checkpoint: str, service: ServiceOf, caller: Admin, project_id: str | None = None, after: After = None,
    limit: int = 10, order: str = "descending",
) -> ListingWithEnds[PermissionOut]:
    page = use.list_permissions(service, caller, checkpoint, cursor(limit, after, order), project_id)
    return with_ends([PermissionOut.of(row) for row in page.rows], has_more=page.has_more)


@router.delete("/{permission_id}")
def delete_permission(checkpoint: str, permission_id: str, service: ServiceOf, caller: Admin) -> PermissionDeleted:
    use.revoke(service, caller, checkpoint, permission_id)
    return PermissionDeleted(id=permission_id, deleted=True)

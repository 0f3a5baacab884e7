"""/v1/audit: the changes in the key's project."""
from typing import Annotated

from fastapi import APIRouter, Query

from feinschliff.api.access import Admin, ServiceOf
from feinschliff.api.wire import ListingWithEnds, cursor, with_ends
from feinschliff.app.changes import Change, changes_of_project

router = APIRouter(prefix="/audit", tags=["audit"])


@router.get("")
def list_changes(
    service: ServiceOf, caller: Admin,
    after: Annotated[int | None, Query(description="The id of the last change of the page before.")] = None,
    limit: int = 20,
    action: Annotated[str, Query(description="What actions begin with: job. or deployment.delete", max_length=64)] = "",
    subject: Annotated[str, Query(description="What was changed: its id or name.", max_length=400)] = "",
) -> ListingWithEnds[Change]:  # fmt: skip
    """Who changed what, and when, the newest first. Needs an admin key."""
    limit = cursor(limit, None, "desc", most=1000).limit
    found = changes_of_project(service, caller, after=after, limit=limit + 1, action=action, subject=subject)
    return with_ends(list(found[:limit]), has_more=len(found) > limit)

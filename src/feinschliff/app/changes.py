"""The audit log, read: who changed what, and when."""
from collections.abc import Sequence
from typing import Literal

from feinschliff.app.service import Service
from feinschliff.core.chat import Wire
from feinschliff.core.service import Caller, ProjectId
from feinschliff.store import audit


class Change(Wire):
    """`id` grows from change to change. `key_id` is whose doing it was: a key's, "operator" (a command on the server's machine) or
    "service" (its background work)."""

    object: Literal["audit.change"] = "audit.change"
    id: str
    created_at: int
    project_id: str
    key_id: str
    request_id: str
    action: str
    subject: str


def changes_of_project(service: Service, caller: Caller, *, after: int | None, limit: int, action: str, subject: str) -> Sequence[Change]:
    """The newest first, from after the change `after` on."""
    return _changes(service, caller.project, after, limit, action, subject)


def all_changes(service: Service, *, limit: int, action: str, subject: str) -> Sequence[Change]:
    """Of all projects, for whoever runs the server."""
    return _changes(service, None, None, limit, action, subject)


def _changes(service: Service, project: ProjectId | None, after: int | None, limit: int, action: str, subject: str) -> Sequence[Change]:
    with service.database.read() as db:
        return [
            Change(
                id=str(row.seq), created_at=row.created_at, project_id=row.project_id, key_id=row.key_id, request_id=row.request_id,
                action=row.action, subject=row.subject,
            )
            for row in audit.changes(db, project, before=after, limit=limit, action=action, subject=subject)
        ]  # fmt: skip

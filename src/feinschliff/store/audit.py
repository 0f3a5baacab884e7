"""The record of changes."""
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from feinschliff.core.service import Caller, ProjectId
from feinschliff.store.tables import AuditRow


def record(session: Session, caller: Caller, action: str, subject: str, now: int) -> None:
    """Write down a change in the transaction that makes it: there is none without the other."""
    session.add(
        AuditRow(
            created_at=now, project_id=caller.project, key_id=caller.key, request_id=caller.request_id, action=action, subject=subject
        )
    )


def changes(session: Session, project: ProjectId | None, *, before: int | None, limit: int, action: str, subject: str) -> Sequence[AuditRow]:
    """The newest first; of one project or, with None, of all. `action` is a beginning, as "job."; empty texts are any."""
    query = select(AuditRow)
    if project is not None:
        query = query.where(AuditRow.project_id == project)
    if before is not None:
        query = query.where(AuditRow.seq < before)
    if action:
        query = query.where(AuditRow.action.startswith(action, autoescape=True))
    if subject:
        query = query.where(AuditRow.subject == subject)
    return session.scalars(query.order_by(AuditRow.seq.desc()).limit(limit)).all()

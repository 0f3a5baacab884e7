"""The record of changes."""
from sqlalchemy.orm import Session

from feinschliff.core.service import Caller
from feinschliff.store.tables import AuditRow


def record(session: Session, caller: Caller, action: str, subject: str, now: int) -> None:
    """Write down a change in the transaction that makes it: there is none without the other."""
    session.add(
        AuditRow(
            created_at=now, project_id=caller.project, key_id=caller.key, request_id=caller.request_id, action=action, subject=subject
        )
    )

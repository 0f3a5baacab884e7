"""Projects and API keys."""
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from feinschliff.core.service import ProjectId
from feinschliff.store.tables import KeyRow, ProjectRow


def find_project(session: Session, name: str) -> ProjectRow | None:
    """By its name or its id."""
    return session.scalar(select(ProjectRow).where((ProjectRow.name == name) | (ProjectRow.id == name)))


def key_of_digest(session: Session, digest: str, *, revoked: bool = False) -> KeyRow | None:
    """With `revoked`, also a key that opens nothing any more."""
    row = session.scalar(select(KeyRow).where(KeyRow.digest == digest))
    return row if row is None or revoked or row.revoked_at is None else None


def find_key(session: Session, key_id: str) -> KeyRow | None:
    return session.scalar(select(KeyRow).where(KeyRow.id == key_id))


def keys_named(session: Session, project: ProjectId, name: str) -> Sequence[KeyRow]:
    return session.scalars(select(KeyRow).where(KeyRow.project_id == project, KeyRow.name == name, KeyRow.revoked_at.is_(None))).all()


def keys_with_projects(session: Session) -> Sequence[tuple[KeyRow, ProjectRow]]:
    query = select(KeyRow, ProjectRow).join(ProjectRow, ProjectRow.id == KeyRow.project_id).order_by(KeyRow.seq)
    return [(key, project) for key, project in session.execute(query)]


def count_usable(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(KeyRow).where(KeyRow.revoked_at.is_(None))) or 0

"""Files and uploads."""
from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, func, not_, or_, select, union
from sqlalchemy.orm import Session

from feinschliff.core.service import FileStatus, JobStatus, ProjectId, UploadStatus
from feinschliff.store.paging import Cursor, Page, page
from feinschliff.store.tables import FileRow, JobRow, PartRow, UploadRow

OPEN = tuple(status for status in JobStatus if not status.ended)


def _alive(now: int) -> ColumnElement[bool]:
    """A file outlives its time for as long as a job needs it."""
    needed = union(
        select(FileRow.id).join(JobRow, JobRow.training_file == FileRow.id).where(JobRow.status.in_(OPEN)),
        select(FileRow.id).join(JobRow, JobRow.validation_file == FileRow.id).where(JobRow.status.in_(OPEN)),
    )
    return or_(FileRow.expires_at.is_(None), FileRow.expires_at > now, FileRow.id.in_(needed))


def find_file(session: Session, project: ProjectId, file_id: str, now: int) -> FileRow | None:
    return session.scalar(select(FileRow).where(FileRow.id == file_id, FileRow.project_id == project, _alive(now)))


def list_files(session: Session, project: ProjectId, cursor: Cursor, now: int, purpose: str | None) -> Page[FileRow]:
    where = [FileRow.project_id == project, _alive(now)]
    if purpose is not None:
        where.append(FileRow.purpose == purpose)
    return page(session, FileRow, cursor, *where)


def first_unchecked(session: Session) -> FileRow | None:
    """The training file that has waited longest for its check."""
    return session.scalar(select(FileRow).where(FileRow.status == FileStatus.UPLOADED).order_by(FileRow.seq).limit(1))


def expired_files(session: Session, now: int) -> Sequence[FileRow]:
    return session.scalars(select(FileRow).where(FileRow.expires_at <= now, not_(_alive(now)))).all()


def find_upload(session: Session, project: ProjectId, upload_id: str) -> UploadRow | None:
    return session.scalar(select(UploadRow).where(UploadRow.id == upload_id, UploadRow.project_id == project))


def parts_of(session: Session, upload_id: str) -> Sequence[PartRow]:
    return session.scalars(select(PartRow).where(PartRow.upload_id == upload_id)).all()


def drop_parts(session: Session, upload_id: str) -> None:
    session.execute(delete(PartRow).where(PartRow.upload_id == upload_id))


def overdue_uploads(session: Session, now: int) -> Sequence[UploadRow]:
    return session.scalars(select(UploadRow).where(UploadRow.status == UploadStatus.PENDING, UploadRow.expires_at <= now)).all()


def used_blobs(session: Session, among: Sequence[str] | None = None) -> set[str]:
    """The hashes that some row refers to."""
    query = union(select(FileRow.sha256), select(PartRow.sha256)).subquery()
    wanted = select(query.c.sha256)
    return set(session.scalars(wanted if among is None else wanted.where(query.c.sha256.in_(among))))


def stored_bytes(session: Session) -> int:
    """Of all files; the same bytes twice are stored once and counted twice."""
    return int(session.scalar(select(func.coalesce(func.sum(FileRow.bytes), 0))) or 0)

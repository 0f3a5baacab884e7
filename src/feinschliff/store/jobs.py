"""Jobs, what is told of them, and the models they make."""
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.orm import Session

from feinschliff.core.service import JobStatus, ProjectId
from feinschliff.store.paging import Cursor, Page, page
from feinschliff.store.tables import (
    CheckpointRow,
    EventRow,
    JobRow,
    ModelRow,
    PermissionRow,
    ProjectRow,
    RepeatRow,
)

ENDED = [s for s in JobStatus if s.ended]


def find_job(session: Session, project: ProjectId, job_id: str) -> JobRow | None:
    return session.scalar(select(JobRow).where(JobRow.id == job_id, JobRow.project_id == project, JobRow.deleted_at.is_(None)))


def job_of(session: Session, job_id: str) -> JobRow | None:
    """For the background work, which serves all projects."""
    return session.scalar(select(JobRow).where(JobRow.id == job_id))


def list_jobs(session: Session, project: ProjectId, cursor: Cursor, metadata: Mapping[str, str]) -> Page[JobRow]:
    wanted = [JobRow.meta[key].as_string() == value for key, value in metadata.items()]
    return page(session, JobRow, cursor, JobRow.project_id == project, JobRow.deleted_at.is_(None), *wanted)


def jobs_in(session: Session, statuses: Collection[JobStatus]) -> Sequence[JobRow]:
    """Oldest first."""
    return session.scalars(select(JobRow).where(JobRow.status.in_(statuses)).order_by(JobRow.seq)).all()


def count_open(session: Session, project: ProjectId) -> int:
    return session.scalar(select(func.count(JobRow.seq)).where(JobRow.project_id == project, JobRow.status.not_in(ENDED))) or 0


def list_events(session: Session, job_id: str, cursor: Cursor) -> Page[EventRow]:
    return page(session, EventRow, cursor, EventRow.job_id == job_id)


def told(session: Session, job_id: str, keys: Collection[str]) -> set[str]:
    """Which of these are events of the job already."""
    return set(session.scalars(select(EventRow.key).where(EventRow.job_id == job_id, EventRow.key.in_(keys))))


def find_event(session: Session, job_id: str, key: str) -> EventRow | None:
    return session.scalar(select(EventRow).where(EventRow.job_id == job_id, EventRow.key == key))


def metrics_of(session: Session, job_id: str) -> Sequence[EventRow]:
    """Its training steps, in order."""
    return session.scalars(select(EventRow).where(EventRow.job_id == job_id, EventRow.type == "metrics").order_by(EventRow.seq)).all()


def list_checkpoints(session: Session, job_id: str, cursor: Cursor) -> Page[CheckpointRow]:
    return page(session, CheckpointRow, cursor, CheckpointRow.job_id == job_id)


def checkpoint_names(session: Session, job_id: str) -> Sequence[str]:
    return session.scalars(select(CheckpointRow.model).where(CheckpointRow.job_id == job_id)).all()


def has_checkpoint(session: Session, job_id: str, step: int) -> bool:
    return session.scalar(select(CheckpointRow.seq).where(CheckpointRow.job_id == job_id, CheckpointRow.step == step)) is not None


def find_model(session: Session, project: ProjectId, name: str) -> ModelRow | None:
    """A tuned model of the project, or a checkpoint that another project has granted it."""
    return session.scalar(select(ModelRow).where(ModelRow.name == name, _usable(project)))


def model_of(session: Session, name: str) -> ModelRow | None:
    """Whoever owns it: for the background work."""
    return session.scalar(select(ModelRow).where(ModelRow.name == name))


def job_to_start_from(session: Session, model: str) -> JobRow | None:
    """A job that has not begun to train, and will from this model."""
    not_begun = [JobRow.started_at.is_(None), JobRow.status.not_in(ENDED)]
    return session.scalar(select(JobRow).where(JobRow.request["model"].as_string() == model, *not_begun).limit(1))


def list_models(session: Session, project: ProjectId) -> Sequence[ModelRow]:
    return session.scalars(select(ModelRow).where(_usable(project)).order_by(ModelRow.seq)).all()


def models_of(session: Session, job_id: str) -> Sequence[ModelRow]:
    """What a job has made: the model and its checkpoints, in the order of their making."""
    return session.scalars(select(ModelRow).where(ModelRow.job_id == job_id).order_by(ModelRow.seq)).all()


def uses_folder(session: Session, folder: str) -> bool:
    """Whether a model still lies there."""
    return session.scalar(select(ModelRow.seq).where(ModelRow.folder == folder).limit(1)) is not None


def has_project(session: Session, project_id: str) -> bool:
    return session.scalar(select(ProjectRow.seq).where(ProjectRow.id == project_id)) is not None


def list_permissions(session: Session, checkpoint: str, cursor: Cursor, grantee: str | None) -> Page[PermissionRow]:
    """All, or those of one project."""
    wanted = [] if grantee is None else [PermissionRow.grantee == grantee]
    return page(session, PermissionRow, cursor, PermissionRow.checkpoint == checkpoint, *wanted)


def find_permission(session: Session, checkpoint: str, permission_id: str) -> PermissionRow | None:
    return session.scalar(select(PermissionRow).where(PermissionRow.checkpoint == checkpoint, PermissionRow.id == permission_id))


def granted_to(session: Session, checkpoint: str, project_id: str) -> PermissionRow | None:
    return session.scalar(select(PermissionRow).where(PermissionRow.checkpoint == checkpoint, PermissionRow.grantee == project_id))


def find_repeat(session: Session, project: ProjectId, key: str) -> RepeatRow | None:
    return session.scalar(select(RepeatRow).where(RepeatRow.project_id == project, RepeatRow.key == key))


def forget_repeats(session: Session, job_id: str) -> None:
    """The requests that made it would make another one."""
    session.execute(delete(RepeatRow).where(RepeatRow.made == job_id))


def _usable(project: ProjectId) -> ColumnElement[bool]:
    granted = select(PermissionRow.checkpoint).where(PermissionRow.grantee == project)
    return or_(ModelRow.project_id == project, ModelRow.name.in_(granted))

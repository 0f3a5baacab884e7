"""What jobs take."""
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from feinschliff.core.service import JobStatus, ProjectId
from feinschliff.store.tables import JobRow, JobUsageRow

WAITING = (JobStatus.VALIDATING, JobStatus.QUEUED)


@dataclass(frozen=True, slots=True)
class Taken:
    """One job's share of a budget."""

    status: JobStatus
    project: ProjectId
    region: str
    model: str
    expected_tokens: int
    expected_seconds: float
    tokens: int
    seconds: float


def usage_of(session: Session, job_id: str) -> JobUsageRow | None:
    """None for jobs of earlier versions."""
    return session.get(JobUsageRow, job_id)


def taken_since(session: Session, created_at: int, *, beside: JobRow | None = None) -> Iterator[Taken]:
    """Of every job made since then, in all projects. `beside` a job that is to start: without it, and without the later ones
    that have not started either.
    """
    query = select(JobRow.status, JobRow.project_id, JobRow.model, JobUsageRow).join(JobUsageRow, JobUsageRow.job_id == JobRow.id)
    query = query.where(JobRow.created_at >= created_at)
    if beside is not None:
        query = query.where(JobRow.id != beside.id, or_(JobRow.seq < beside.seq, JobRow.status.not_in(WAITING)))
    for status, project, model, row in session.execute(query):
        yield Taken(
            JobStatus(status), ProjectId(project), row.region, model, row.expected_tokens, row.expected_seconds, row.tokens, row.seconds
        )  # fmt: skip


def open_jobs(session: Session, default: str) -> dict[tuple[str, JobStatus], int]:
    """How many there are, by region and state; `default` is the region of jobs of earlier versions."""
    region = func.coalesce(JobUsageRow.region, default)
    query = select(region, JobRow.status, func.count()).outerjoin(JobUsageRow, JobUsageRow.job_id == JobRow.id)
    open_ones = JobRow.status.not_in([s for s in JobStatus if s.ended])
    return {(str(r), JobStatus(status)): n for r, status, n in session.execute(query.where(open_ones).group_by(region, JobRow.status))}

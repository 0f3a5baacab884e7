"""Integrations that still have to be told something."""
from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from feinschliff.store.tables import EventRow, IntegrationRow, JobRow


def add(session: Session, job_id: str, n: int) -> None:
    session.add_all(IntegrationRow(job_id=job_id, number=number) for number in range(n))


def open_ones(session: Session) -> Sequence[tuple[JobRow, int]]:
    """With their jobs, the oldest first."""
    query = select(JobRow, IntegrationRow.number).join(IntegrationRow, IntegrationRow.job_id == JobRow.id)
    return [(job, number) for job, number in session.execute(query.order_by(JobRow.seq, IntegrationRow.number))]


def remove(session: Session, job_id: str, number: int) -> None:
    """It knows everything, or is given up."""
    session.execute(delete(IntegrationRow).where(IntegrationRow.job_id == job_id, IntegrationRow.number == number))


def steps_after(session: Session, job_id: str, seq: int) -> Sequence[EventRow]:
    """The job's training steps from after the event `seq` on, in order."""
    wanted = (EventRow.job_id == job_id, EventRow.type == "metrics", EventRow.seq > seq)
    return session.scalars(select(EventRow).where(*wanted).order_by(EventRow.seq)).all()

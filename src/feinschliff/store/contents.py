"""What the rows of a database refer to on the disk."""
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from feinschliff.core.service import JobStatus
from feinschliff.store.files import used_blobs
from feinschliff.store.tables import JobRow, ModelRow


@dataclass(frozen=True, slots=True)
class Contents:
    """`folders` are those of models, relative to the data folder."""

    blobs: frozenset[str]
    ended_jobs: frozenset[str]
    open_jobs: frozenset[str]
    folders: frozenset[str]


def contents_of(session: Session) -> Contents:
    jobs = {row.id: JobStatus(row.status).ended for row in session.scalars(select(JobRow))}
    return Contents(
        blobs=frozenset(used_blobs(session)),
        ended_jobs=frozenset(job for job, ended in jobs.items() if ended),
        open_jobs=frozenset(job for job, ended in jobs.items() if not ended),
        folders=frozenset(session.scalars(select(ModelRow.folder))),
    )

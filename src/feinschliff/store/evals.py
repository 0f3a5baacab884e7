"""Evaluations, their runs, and what came of each item."""
from collections.abc import Collection, Sequence
from typing import Literal

from sqlalchemy import and_, delete, func, or_, select
from sqlalchemy.orm import Session

from feinschliff.core.service import ProjectId, RunStatus
from feinschliff.core.service_errors import RequestError
from feinschliff.store.paging import Cursor, Page, page
from feinschliff.store.tables import EvalItemRow, EvalRow, EvalRunRow

OPEN = [status for status in RunStatus if not status.ended]


def find_eval(session: Session, project: ProjectId, eval_id: str) -> EvalRow | None:
    return session.scalar(select(EvalRow).where(EvalRow.id == eval_id, EvalRow.project_id == project))


def list_evals(session: Session, project: ProjectId, cursor: Cursor, by: Literal["created_at", "updated_at"]) -> Page[EvalRow]:
    """Raises RequestError where the cursor is no evaluation of the project."""
    if by == "created_at":
        return page(session, EvalRow, cursor, EvalRow.project_id == project)
    query, rising = select(EvalRow).where(EvalRow.project_id == project), cursor.order == "asc"
    if cursor.after is not None:
        at = find_eval(session, project, cursor.after)
        if at is None:
            raise RequestError(f"There is no {cursor.after!r} in this list.", param="after")
        time, seq = EvalRow.updated_at, EvalRow.seq
        later = or_(time > at.updated_at, and_(time == at.updated_at, seq > at.seq))
        earlier = or_(time < at.updated_at, and_(time == at.updated_at, seq < at.seq))
        query = query.where(later if rising else earlier)
    keys = (EvalRow.updated_at, EvalRow.seq) if rising else (EvalRow.updated_at.desc(), EvalRow.seq.desc())
    rows = session.scalars(query.order_by(*keys).limit(cursor.limit + 1)).all()
    return Page(rows[: cursor.limit], len(rows) > cursor.limit)


def find_run(session: Session, project: ProjectId, eval_id: str, run_id: str) -> EvalRunRow | None:
    where = (EvalRunRow.id == run_id, EvalRunRow.eval_id == eval_id, EvalRunRow.project_id == project)
    return session.scalar(select(EvalRunRow).where(*where))


def run_of(session: Session, run_id: str) -> EvalRunRow | None:
    """For the background work. The row is held until the transaction ends, where the database knows row locks."""
    return session.scalar(select(EvalRunRow).where(EvalRunRow.id == run_id).with_for_update())


def list_runs(session: Session, eval_id: str, cursor: Cursor, status: str | None) -> Page[EvalRunRow]:
    where = [EvalRunRow.eval_id == eval_id]
    if status is not None:
        where.append(EvalRunRow.status == status)
    return page(session, EvalRunRow, cursor, *where)


def count_open(session: Session, project: ProjectId) -> int:
    query = select(func.count()).select_from(EvalRunRow).where(EvalRunRow.project_id == project, EvalRunRow.status.in_(OPEN))
    return session.scalar(query) or 0


def open_runs(session: Session) -> Sequence[str]:
    """The ids of those that are not ended, the oldest first."""
    return session.scalars(select(EvalRunRow.id).where(EvalRunRow.status.in_(OPEN)).order_by(EvalRunRow.seq)).all()


def find_item(session: Session, run_id: str, item_id: str) -> EvalItemRow | None:
    return session.scalar(select(EvalItemRow).where(EvalItemRow.id == item_id, EvalItemRow.run_id == run_id))


def list_items(session: Session, run_id: str, cursor: Cursor, status: str | None) -> Page[EvalItemRow]:
    where = [EvalItemRow.run_id == run_id]
    if status is not None:
        where.append(EvalItemRow.status == status)
    return page(session, EvalItemRow, cursor, *where)


def numbers_done(session: Session, run_id: str) -> Collection[int]:
    return frozenset(session.scalars(select(EvalItemRow.number).where(EvalItemRow.run_id == run_id)))


def drop_run(session: Session, row: EvalRunRow) -> None:
    session.execute(delete(EvalItemRow).where(EvalItemRow.run_id == row.id))
    session.delete(row)


def drop_eval(session: Session, row: EvalRow) -> None:
    """With its runs and their items."""
    runs = select(EvalRunRow.id).where(EvalRunRow.eval_id == row.id)
    session.execute(delete(EvalItemRow).where(EvalItemRow.run_id.in_(runs)))
    session.execute(delete(EvalRunRow).where(EvalRunRow.eval_id == row.id))
    session.delete(row)

"""Cursor paging, the same for every list: rows in the order of their making, from after a given one."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from feinschliff.core.service import Order
from feinschliff.core.service_errors import RequestError
from feinschliff.store.tables import Listed

Row = TypeVar("Row", bound=Listed)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Which page is wanted: `limit` rows after the row with the id `after`, or from the beginning."""

    limit: int
    after: str | None = None
    order: Order = "desc"


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    rows: Sequence[Row]
    has_more: bool


def page(session: Session, table: type[Row], cursor: Cursor, *where: ColumnElement[bool]) -> Page[Row]:
    """Raises RequestError where `after` is no row of this list."""
    seq = table.seq
    query = select(table).where(*where)
    if cursor.after is not None:
        at = session.scalar(select(seq).where(table.id == cursor.after, *where))
        if at is None:
            raise RequestError(
                f"There is no {cursor.after!r} in this list.", param="after", hint="Pass the id of the last element of the page before."
            )
        query = query.where(seq > at if cursor.order == "asc" else seq < at)
    query = query.order_by(seq.asc() if cursor.order == "asc" else seq.desc()).limit(cursor.limit + 1)
    rows = session.scalars(query).all()
    return Page(rows[: cursor.limit], len(rows) > cursor.limit)

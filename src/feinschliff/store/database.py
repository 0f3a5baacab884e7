"""One database, SQLite or PostgreSQL, and its transactions."""
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session as Session  # use cases take it from here
from sqlalchemy.pool import ConnectionPoolEntry

from feinschliff.core.service_errors import RequestError

WRITES = "feinschliff_writes"
BUSY_S = 30  # how long a writer waits for another one


class Database:
    """Transactions as context managers: `read` sees one state, `write` commits at its end or changes nothing.

    Both raise RequestError for a value that the database cannot hold: PostgreSQL keeps no NUL in a text, SQLite does.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._writer = self.engine.execution_options(**{WRITES: True})

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        with _holdable(), Session(self.engine, expire_on_commit=False, autoflush=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        with _holdable(), Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def _holdable() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise RequestError("The request holds a value that the database cannot keep.", hint="Send text without NUL characters.") from error


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, pool_size=20, max_overflow=30)
    engine = create_engine(url, pool_size=20, max_overflow=30, connect_args={"timeout": BUSY_S, "check_same_thread": False})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    if not isinstance(connection, sqlite3.Connection):
        raise TypeError(f"{type(connection)} is no SQLite connection")
    connection.isolation_level = None  # transactions begin where we say so, see _begin
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_S * 1000}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    """A writer takes the write lock at its beginning: one that read first, and then cannot have it, could only give up."""
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

"""One database, SQLite or PostgreSQL, and its transactions."""
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session as Session  # use cases take it from here
from sqlalchemy.pool import ConnectionPoolEntry

from feinschliff.core.service_errors import NO_ROOM_HINT, NoRoom, RequestError, Unavailable

log = logging.getLogger("feinschliff.database")
WRITES = "feinschliff_writes"
BUSY_S = 30  # how long a writer waits for another one
PG_DISK_FULL = "53100"  # PostgreSQL's SQLSTATE


class Database:
    """Transactions as context managers: `read` sees one state, `write` commits at its end or changes nothing.

    Both raise RequestError for a value that the database cannot hold: PostgreSQL keeps no NUL in a text, SQLite does; Unavailable
    where it is locked for longer than `wait_s` or cannot be reached, NoRoom where its disk is full. Nothing was changed then.
    """

    def __init__(self, url: str, wait_s: int = BUSY_S) -> None:
        self.engine = _engine(url, wait_s)
        self._writer = self.engine.execution_options(**{WRITES: True})

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        with _said_plainly(), Session(self.engine, expire_on_commit=False, autoflush=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        with _said_plainly(), Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def _said_plainly() -> Iterator[None]:
    try:
        yield
    except (DataError, UnicodeEncodeError, OverflowError) as error:  # the last two: lone surrogates, numbers beyond 64 bits
        raise RequestError("The request holds a value that the database cannot keep.", hint="Send text without NUL characters.") from error
    except DBAPIError as error:
        if not isinstance(error, OperationalError) and not error.connection_invalidated:
            raise
        log.warning("database: %s", error.orig)
        if _is_full(error):
            raise NoRoom("There is no room left on the disk of the database.", hint=NO_ROOM_HINT) from error
        raise Unavailable("The database is busy or cannot be reached.", hint="Try again in a moment.") from error
    except PoolTimeout as error:
        raise Unavailable("The database has too much to do.", hint="Try again in a moment.") from error


def _is_full(error: DBAPIError) -> bool:
    """SQLite says so by its own code, or by that of a write which failed; PostgreSQL by its SQLSTATE."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    full = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_FSYNC)
    return code in full or getattr(error.orig, "sqlstate", None) == PG_DISK_FULL


def _engine(url: str, wait_s: int) -> Engine:
    if not url.startswith("sqlite"):
        waits = {"connect_timeout": max(2, wait_s), "options": f"-c lock_timeout={wait_s * 1000}"}
        return create_engine(url, pool_pre_ping=True, pool_size=20, max_overflow=30, pool_timeout=wait_s, connect_args=waits)
    engine = create_engine(url, pool_size=20, max_overflow=30, pool_timeout=wait_s, connect_args={"timeout": wait_s, "check_same_thread": False})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    if not isinstance(connection, sqlite3.Connection):
        raise TypeError(f"{type(connection)} is no SQLite connection")
    connection.isolation_level = None  # transactions begin where we say so, see _begin
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    """A writer takes the write lock at its beginning: one that read first, and then cannot have it, could only give up."""
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

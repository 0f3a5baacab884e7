"""The engines, opened for reading only. Runs in the child process (`program`), one query at a time.

Each `open_*` takes a database file and gives back a function from a query to its rows; that function raises the engine's
own exception type (`QUERY_ERRORS`) for a query it will not run. Each engine refuses writes and files of its own accord
where it can; where it cannot (ladybug), the query is looked at first.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from feinschliff.core.errors import MissingExtra
from feinschliff.evals.engines.gql import to_cypher
from feinschliff.evals.engines.rows import Cell, cell
from feinschliff.evals.engines.tokens import following, previous, tokens

Run = Callable[[str], list[list[Cell]]]
MEMORY_BYTES = 512 << 20  # an engine's own cap; the process has another one above it

CELL_BYTES = 16 << 20  # the longest text or blob in SQLite; the others have the cap above only


class NotAllowed(Exception):
    """The query would do something other than read the database."""


def open_ladybug(path: Path, max_rows: int) -> Run:
    """ISO GQL or Cypher on a ladybug database. One thread, so that ties under ORDER BY … LIMIT fall the same way each time."""
    try:
        import ladybug
    except ImportError:
        raise MissingExtra("ladybug", extra="graph", feature="Execution on a graph") from None
    span = 1 << max(32, (path.stat().st_size * 4).bit_length())  # address space reserved, not memory used
    database = ladybug.Database(
        path, read_only=True, buffer_pool_size=MEMORY_BYTES, max_num_threads=1, max_db_size=span
    )
    connection = ladybug.Connection(database)

    def run(query: str) -> list[list[Cell]]:
        only_reads(query)
        result = connection.execute(to_cypher(query))
        if isinstance(result, list):  # several statements
            raise NotAllowed("one statement at a time")
        with result:
            if result.get_num_tuples() > max_rows:
                raise NotAllowed(f"more than {max_rows} rows")
            return [[cell(value) for value in row] for row in result.get_all()]

    return run


_READING = frozenset({"MATCH", "OPTIONAL", "UNWIND", "WITH", "RETURN"})
_OPERATORS = frozenset({"AND", "OR", "XOR", "NOT", "IN", "AS"})


def only_reads(query: str) -> None:
    """Raise NotAllowed for Cypher that does more than read the graph.

    ladybug's read-only mode guards the database and nothing else: `COPY … TO`, `EXPORT DATABASE`, `LOAD FROM 'file'`,
    `INSTALL` and `CALL timeout=…` all run in it. So a query must start as a reading one, be the only statement, and
    must not read files or call table functions half-way.
    """
    parts = [t for t in tokens(query) if not t.silent]
    first = parts[0].word if parts else ""
    if first not in _READING:
        raise NotAllowed(f"{first or 'an empty text'} is not a reading query")
    for i, token in enumerate(parts):
        after = following(parts, i)
        next_token = parts[after] if after < len(parts) else None
        if token.text == ";" and next_token and next_token.text != ";":
            raise NotAllowed("one statement at a time")
        if previous(parts, i) in (".", ":", "|") or next_token is None:
            continue
        if token.word == "LOAD" and next_token.word in ("FROM", "WITH", "EXTENSION"):
            raise NotAllowed("LOAD reads files")
        if (
            token.word == "CALL"
            and next_token.kind in ("word", "quoted")
            and next_token.word not in _OPERATORS
        ):
            behind = following(parts, after)
            if behind < len(parts) and parts[behind].text == "(":
                raise NotAllowed("CALL runs a procedure")


def open_sqlite(path: Path, max_rows: int) -> Run:
    """SQL on a SQLite file. An authorizer lets only SELECTs and their reads through."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    connection.execute("PRAGMA temp_store = MEMORY")  # the process may write no files
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, CELL_BYTES)
    reading = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}

    def allow(action: int, _a: str | None, name: str | None, _c: str | None, _d: str | None) -> int:
        harmless = action == sqlite3.SQLITE_FUNCTION and name != "load_extension"
        return sqlite3.SQLITE_OK if action in reading or harmless else sqlite3.SQLITE_DENY

    connection.set_authorizer(allow)

    def run(query: str) -> list[list[Cell]]:
        cursor = connection.execute(query)
        if cursor.description is None:
            raise NotAllowed("not a SELECT")
        return _capped(cursor.fetchmany(max_rows + 1), max_rows)

    return run


def open_duckdb(path: Path, max_rows: int) -> Run:
    """SQL on a DuckDB file: one SELECT, no files, no extensions, settings locked."""
    try:
        import duckdb
    except ImportError:
        raise MissingExtra("duckdb", extra="graph", feature="Execution on DuckDB") from None
    connection = duckdb.connect(
        str(path),
        read_only=True,
        config={
            "enable_external_access": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "memory_limit": f"{MEMORY_BYTES >> 20}MB",
            "threads": "1",
        },
    )
    connection.execute("SET lock_configuration = true")

    def run(query: str) -> list[list[Cell]]:
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise NotAllowed("not a single SELECT")
        return _capped(connection.execute(statements[0]).fetchmany(max_rows + 1), max_rows)

    return run


def open_gql(_path: Path, _max_rows: int) -> Run:
    """No database: parses ISO GQL with gqlppy and answers no rows.

    gqlppy's Earley grammar, because its LALR grammar (0.6.0, 100 times faster) refuses every MATCH.
    """
    try:
        import gqlppy
    except ImportError:
        raise MissingExtra("gqlppy", extra="graph", feature="The GQL syntax grader") from None
    parser = gqlppy.Parser("earley")

    def run(query: str) -> list[list[Cell]]:
        parser.parse(query)
        return []

    return run


def _capped(rows: list[tuple[object, ...]], max_rows: int) -> list[list[Cell]]:
    if len(rows) > max_rows:
        raise NotAllowed(f"more than {max_rows} rows")
    return [[cell(value) for value in row] for row in rows]


def query_errors(kind: str) -> tuple[type[Exception], ...]:
    """What engine `kind` raises for a query that is at fault, as opposed to an engine that is."""
    if kind == "sqlite":
        return (NotAllowed, sqlite3.Error, sqlite3.Warning, ValueError)  # Warning: several statements
    if kind == "duckdb":
        import duckdb

        return (NotAllowed, duckdb.Error)
    if kind == "gql":
        from lark.exceptions import LarkError

        return (NotAllowed, LarkError, RecursionError)
    return (NotAllowed, RuntimeError)  # ladybug has no exception type of its own


OPENERS: dict[str, Callable[[Path, int], Run]] = {
    "ladybug": open_ladybug,
    "sqlite": open_sqlite,
    "duckdb": open_duckdb,
    "gql": open_gql,
}

"""PROGRAM  python -m feinschliff.evals.engines.program {run KIND DATABASE MAX_ROWS TIMEOUT_S | build KIND SCRIPT TARGET}

`run` reads one JSON string a line (a query) and answers one JSON object a line: {"rows": [[cell]]} | {"refused": why} |
{"broken": why}. A query that takes longer than TIMEOUT_S ends the process by SIGALRM, whatever native code it is in; so
does one that wants more memory than the limit end in an error. `build` runs a set-up script into a new database file.

A process of its own because nothing else holds: ladybug ran `UNWIND range(1, 1000000000)` for 52 s under a time-out of 1 s.
"""

import json
import resource
import signal
import sqlite3
import sys
from pathlib import Path

from feinschliff.core.errors import FeinschliffError
from feinschliff.evals.engines.open import OPENERS, query_errors

MEMORY_BYTES = 2 << 30  # on top of what the opened engine has reserved
ANSWER_CHARACTERS = 64 << 20  # of one result as JSON; a row limit alone does not bound long texts


def main(arguments: list[str]) -> int:
    match arguments:
        case ["run", kind, database, max_rows, timeout_s]:
            return serve(kind, Path(database), int(max_rows), float(timeout_s))
        case ["build", kind, script, target]:
            return build(kind, Path(script).read_text(encoding="utf-8"), Path(target))
        case _:
            sys.stderr.write(__doc__ or "")
            return 2


def serve(kind: str, database: Path, max_rows: int, timeout_s: float) -> int:
    """Answer queries from stdin until it closes. Exit 3: the database cannot be opened; the reason is the first line."""
    errors = query_errors(kind)
    try:
        run = OPENERS[kind](database, max_rows)
    except (*errors, FeinschliffError, OSError) as error:
        _answer({"broken": f"cannot open {database}: {error}"})
        return 3
    _limit_memory_and_files()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # whatever our parent has set
    _answer({"ready": True})
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_REAL, timeout_s)
        try:
            reply: dict[str, object] = {"rows": run(json.loads(line))}
        except errors as error:
            reply = {"refused": str(error).strip() or type(error).__name__}
        except MemoryError:
            reply = {"refused": "out of memory"}
        _answer(reply)
    return 0


def _answer(reply: dict[str, object]) -> None:
    text = json.dumps(reply)
    if len(text) > ANSWER_CHARACTERS:
        text = json.dumps({"refused": f"the result is larger than {ANSWER_CHARACTERS >> 20} MB"})
    signal.setitimer(signal.ITIMER_REAL, 0)  # from here on the time is the reader's
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _limit_memory_and_files() -> None:
    """No file may be written from here on, and the memory may grow by `MEMORY_BYTES` only."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    status = Path("/proc/self/status")
    if status.exists():  # Linux; elsewhere the engines' own caps must do
        reserved_kib = next(
            int(x.split()[1]) for x in status.read_text("ascii").splitlines() if x.startswith("VmData")
        )
        limit = reserved_kib * 1024 + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def build(kind: str, script: str, target: Path) -> int:
    """Run `script` into the new file `target`; relative paths in it are relative to the working directory."""
    try:
        match kind:
            case "ladybug":
                _build_ladybug(script, target)
            case "duckdb":
                _build_duckdb(script, target)
            case _:
                _build_sqlite(script, target)
    except query_errors(kind) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _build_ladybug(script: str, target: Path) -> None:
    import ladybug

    with ladybug.Database(target, max_num_threads=1) as database, ladybug.Connection(database) as connection:
        results = connection.execute(script)
        for result in results if isinstance(results, list) else [results]:
            result.close()


def _build_duckdb(script: str, target: Path) -> None:
    import duckdb

    with duckdb.connect(str(target)) as connection:
        connection.execute(script)


def _build_sqlite(script: str, target: Path) -> None:
    connection = sqlite3.connect(target)
    try:
        connection.executescript(script)
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

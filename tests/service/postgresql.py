"""A PostgreSQL server of our own for the tests: an empty cluster in a folder, reached over a socket in that folder only."""
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from running import wait_until

INITDB = shutil.which("initdb")
WHY_NOT = "initdb is not on the path: install PostgreSQL (Debian: postgresql) to run the service on it"
# What a crash of the machine would lose is no concern of a test.
FAST = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=120")


@contextmanager
def cluster() -> Iterator[str]:
    """The address of an empty database, until the end of the block.

    Its folder is short and outside of pytest's: a socket's path has at most 107 bytes, and pytest's folders are closed to other accounts.
    """
    if INITDB is None:
        raise RuntimeError(WHY_NOT)
    with tempfile.TemporaryDirectory(prefix="feinschliff-", ignore_cleanup_errors=True) as name:
        folder, account = Path(name), _account()
        if account:
            os.chown(folder, account["user"], account["group"])
        subprocess.run([INITDB, "-D", folder / "data", "-U", "feinschliff", "-A", "trust", "-E", "UTF8"], check=True, capture_output=True, **account)
        with (folder / "log.txt").open("w") as log:
            postgres = Path(INITDB).resolve().parent / "postgres"  # Debian keeps it beside initdb, off the path
            command = [postgres, "-D", folder / "data", "-k", folder, "-c", "listen_addresses=", *FAST]
            server = subprocess.Popen(command, stdout=log, stderr=log, **account)
        try:
            wait_until(lambda: "ready to accept connections" in (folder / "log.txt").read_text())
            yield f"postgresql://feinschliff@/postgres?host={folder}"
        finally:
            server.terminate()
            server.wait(30)


def _account() -> dict[str, int]:
    """PostgreSQL refuses to run as root: then its own account, or nobody's."""
    if os.getuid() != 0:
        return {}
    names = {account.pw_name: account for account in pwd.getpwall()}
    account = names.get("postgres") or names["nobody"]
    return {"user": account.pw_uid, "group": account.pw_gid}

"""A PostgreSQL server of our own for the tests: an empty cluster in a folder, reached over a socket in that folder only."""
import os
import pwd
import shutil
import signal
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


class Cluster:
    """A server in `folder`, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.url = f"postgresql://feinschliff@/postgres?host={folder}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        postgres = Path(INITDB or "").resolve().parent / "postgres"  # Debian keeps it beside initdb, off the path
        log = self._folder / "log.txt"
        command = [postgres, "-D", self._folder / "data", "-k", self._folder, "-c", "listen_addresses=", *FAST]
        with log.open("w") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, **_account())
        wait_until(lambda: "ready to accept connections" in log.read_text())

    def end(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: fast shutdown. SIGKILL: the postmaster alone; its children see it and end by themselves."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """An empty database, until the end of the block.

    Its folder is short and outside of pytest's: a socket's path has at most 107 bytes, and pytest's folders are closed to other accounts.
    """
    if INITDB is None:
        raise RuntimeError(WHY_NOT)
    with tempfile.TemporaryDirectory(prefix="feinschliff-", ignore_cleanup_errors=True) as name:
        folder, account = Path(name), _account()
        if account:
            os.chown(folder, account["user"], account["group"])
        subprocess.run([INITDB, "-D", folder / "data", "-U", "feinschliff", "-A", "trust", "-E", "UTF8"], check=True, capture_output=True, **account)
        server = Cluster(folder)
        server.start()
        try:
            yield server
        finally:
            server.end()


@contextmanager
def cluster() -> Iterator[str]:
    """Its address alone."""
    with running_cluster() as server:
        yield server.url


def _account() -> dict[str, int]:
    """PostgreSQL refuses to run as root: then its own account, or nobody's."""
    if os.getuid() != 0:
        return {}
    names = {account.pw_name: account for account in pwd.getpwall()}
    account = names.get("postgres") or names["nobody"]
    return {"user": account.pw_uid, "group": account.pw_gid}

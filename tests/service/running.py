"""A real server process, and official clients for it whose every response is held against the published contract."""
import hashlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import httpx2
from openai import OpenAI
from wire_contract import check_response

ADMIN_KEY = "an-admin-key-for-tests-only"
STARTS_IN_S = 60


class Server:
    """`feinschliff serve` on a free port. Its log is `folder/server.log`."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._options = options
        self._environment = {"FEINSCHLIFF_ADMIN_KEY": ADMIN_KEY} | environment
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self.printed: list[str] = []
        self._clients: list[httpx2.Client] = []

    def start(self) -> "Server":
        command = [sys.executable, "-m", "feinschliff.cli.main", "serve", "--port", "0", "--data-dir", str(self.data), *self._options]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FEINSCHLIFF_")}
        with (self.folder / "server.log").open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                command, env=environment | {k: v for k, v in self._environment.items() if v}, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8",
            )  # fmt: skip
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed.append(line.strip())
            if found := re.search(r"listening on (http://\S+)/v1", line):
                self.url = found.group(1)
                return self
        raise AssertionError(f"the server did not start: {self.log[-2000:]}")

    def stop(self) -> int:
        """As an operator would; the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> int:
        for client in self._clients:
            client.close()
        if self.process is None:
            return 0
        self.process.send_signal(how)
        self.process.communicate()
        code, self.process = self.process.returncode, None
        return code

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text(encoding="utf-8")

    def client(self, key: str = ADMIN_KEY, **options) -> OpenAI:
        """The official client. Every response that it gets is checked against the contract."""
        http = httpx2.Client(event_hooks={"response": [check_response]}, timeout=60)
        self._clients.append(http)
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, http_client=http, **({"max_retries": 0} | options))

    def http(self, key: str | None = ADMIN_KEY) -> httpx2.Client:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._clients.append(httpx2.Client(base_url=self.url, headers=headers, timeout=60))
        return self._clients[-1]

    def run(self, *arguments: str) -> str:
        """Another command of the same installation, on the same data; what it printed."""
        command = [sys.executable, "-m", "feinschliff.cli.main", *arguments, "--data-dir", str(self.data)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


    def kill_process(self, pid: int) -> None:
        """One of the server's programs, if it still runs."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def project_of(self, key: str) -> str:
        """The id of the key's project."""
        with sqlite3.connect(self.data / "feinschliff.sqlite") as db:
            digest = hashlib.sha256(key.encode()).hexdigest()
            return db.execute("SELECT project_id FROM api_keys WHERE digest = ?", [digest]).fetchone()[0]


def wait_until(reached, *, seconds: float = 60, every_s: float = 0.05):
    """What `reached` returns, as soon as that is something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := reached():
            return value
        time.sleep(every_s)
    raise AssertionError(f"not reached within {seconds} s")


def children_of(pid: int) -> Sequence[int]:
    return [int(c) for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]

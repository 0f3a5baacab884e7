"""A real Ray cluster of this machine alone."""
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

STARTS_IN_S = 240


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def ray_cluster(folder: Path, port: int) -> Iterator[str]:
    """Its address; its processes are killed at the end, as when a machine goes."""
    options = [f"--port={port}", "--include-dashboard=false", "--num-cpus=2", "--disable-usage-stats", f"--temp-dir={folder}", "--block"]
    log = folder / "head.log"
    with log.open("w", encoding="utf-8") as out:
        head = subprocess.Popen([str(Path(sys.executable).parent / "ray"), "start", "--head", *options], stdout=out, stderr=out, start_new_session=True)
    try:
        end = time.monotonic() + STARTS_IN_S
        while "Ray runtime started" not in log.read_text(encoding="utf-8"):
            assert time.monotonic() < end, log.read_text(encoding="utf-8")
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        for process in (*psutil.Process(head.pid).children(recursive=True), head):
            process.kill()
        head.wait()

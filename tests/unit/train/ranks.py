"""Real ranks for tests: torchrun as a user starts it."""
import os
import signal
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[2]
SOURCE = TESTS.parent / "src"


def torchrun(log: Path, *what: str, n: int = 2) -> "subprocess.Popen[bytes]":
    """`torchrun --nproc-per-node n what…`, its output in `log`."""
    path = os.pathsep.join([str(SOURCE), str(TESTS), str(Path(__file__).parent)])
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}", *what],
            stdout=out, stderr=out, env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip


def kill_rank(launcher: int, rank: int) -> None:
    """kill -9 for one process of a running torchrun."""
    for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text(encoding="utf-8").split():
        if f"RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            os.kill(int(pid), signal.SIGKILL)
            return
    raise AssertionError(f"{launcher} has no rank {rank}")

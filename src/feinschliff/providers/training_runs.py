"""Training programs that outlive a request, and a server: started, found again after a restart, stopped."""
import subprocess
from pathlib import Path

import psutil

from feinschliff.compute import process
from feinschliff.core.ports import Compute
from feinschliff.data.files import write_text

STOP_S = 20.0  # a program elsewhere is asked by the one that stands for it
HERE = process.Here()


class TrainingRuns:
    """One program per run folder below `root`. `folder/program` names the one that a killed server left behind."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._children: dict[str, subprocess.Popen[str]] = {}

    def folder(self, job_id: str) -> Path:
        return self.root / job_id

    def start(self, job_id: str, place: Compute = HERE) -> None:
        """Train, or go on from the last saved step."""
        folder = self.folder(job_id)
        child = place.start(job_id, "feinschliff.train", [str(folder)], folder / "log.txt")
        self._children[job_id] = child
        write_text(folder / "program", f"{child.pid} {psutil.Process(child.pid).create_time()}")

    def alive(self, job_id: str) -> bool:
        child = self._children.get(job_id)
        return child.poll() is None if child is not None else self._left_behind(job_id) is not None

    def died(self, job_id: str) -> bool:
        """Whether a program that this server started has ended. Of one that another server started nothing is known."""
        child = self._children.get(job_id)
        return child is not None and child.poll() is not None

    def unreachable(self, job_id: str) -> bool:
        """Whether it ended because its place does not answer."""
        child = self._children.get(job_id)
        return child is not None and child.poll() == process.UNREACHABLE

    def last_words(self, job_id: str) -> str:
        return process.last_lines(self.folder(job_id) / "log.txt")

    def stop(self, job_id: str) -> None:
        """End it if it runs. What it saved stays."""
        if (child := self._children.pop(job_id, None)) is not None:
            process.stop(child, grace_s=STOP_S)
        elif (orphan := self._left_behind(job_id)) is not None:
            orphan.terminate()
            if psutil.wait_procs([orphan], timeout=STOP_S)[1]:
                orphan.kill()
        (self.folder(job_id) / "program").unlink(missing_ok=True)

    def known(self) -> set[str]:
        """The jobs that may have a program."""
        return {*self._children, *(p.parent.name for p in self.root.glob("*/program"))}

    def _left_behind(self, job_id: str) -> psutil.Process | None:
        """The program that another server started, if it still runs; a number used again is told by its time of birth."""
        try:
            pid, born = (self.folder(job_id) / "program").read_text(encoding="utf-8").split()
            found = psutil.Process(int(pid))
            same = abs(found.create_time() - float(born)) < 1 and found.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, psutil.Error):
            return None
        return found if same else None

"""Training programs that outlive a request, and a server: started, found again after a restart, stopped."""
import signal
import subprocess
from pathlib import Path

import psutil

from feinschliff.compute import process
from feinschliff.core.ports import Compute
from feinschliff.data.files import write_text

STOP_S = 20.0  # a program elsewhere is asked by the one that stands for it
HERE = process.Here()


class TrainingRuns:
    """One program per run folder below `root`. `folder/program` names the one that a killed server left behind: its number and how
    long after the machine's start it was born, which no change of the clock touches. It is empty while a program is being started."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._children: dict[str, subprocess.Popen[str]] = {}

    def folder(self, job_id: str) -> Path:
        return self.root / job_id

    def start(self, job_id: str, place: Compute = HERE) -> None:
        """Train, or go on from the last saved step."""
        folder = self.folder(job_id)
        write_text(folder / "program", "")  # first, so that a kill between here and there leaves no program that nobody looks for
        child = place.start(job_id, process.TRAIN, [str(folder)], folder / "log.txt")
        self._children[job_id] = child
        write_text(folder / "program", f"{child.pid} {_born_s(psutil.Process(child.pid))}")

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
        """How the program ended, and the end of its log."""
        child = self._children.get(job_id)
        code = None if child is None else child.poll()
        how = "" if code is None else f"Signal {-code} ({signal.Signals(-code).name}) ended it." if code < 0 else f"It ended with code {code}."
        return f"{how} {process.last_lines(self.folder(job_id) / 'log.txt')}".strip()

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
        """The program that another server started, if it still runs; a number used again is told by its birth."""
        try:
            named = (self.folder(job_id) / "program").read_text(encoding="utf-8").split()
            if not named:
                return _training_in(self.folder(job_id))
            found, born_s = psutil.Process(int(named[0])), float(named[1])
            same = abs(_born_s(found) - born_s) < 1 and found.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, IndexError, psutil.Error):
            return None
        return found if same else None


def _born_s(found: psutil.Process) -> float:
    """After the machine's start: both times of the difference move with the clock."""
    return found.create_time() - psutil.boot_time()


def _training_in(folder: Path) -> psutil.Process | None:
    """By its command line, for lack of a number."""
    wanted = ["-m", process.TRAIN, str(folder)]
    return next((p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [])[-3:] == wanted), None)

"""A case made ready: the tokens, the order of the steps and the first adapter that every system is given."""
import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import data_sets
from environments import CACHE
from systems import MAX_TOKENS, Case
from work import Shape, StepWork, needed_flops

HERE = Path(__file__).resolve().parent
RANK, ALPHA = 16, 32.0
_DECIDING = ("train/batches.py", "train/model.py", "nn/tree.py", "nn/adapter.py", "data/render.py")  # of src/feinschliff


class Unprepared(Exception):
    """A case cannot be made ready; the text says why."""


@dataclass(frozen=True, slots=True)
class Prepared:
    folder: Path
    case: Case
    work: tuple[StepWork, ...]

    @property
    def longest(self) -> int:
        return max(w.longest for w in self.work)

    @property
    def packed_tokens(self) -> int:
        """The length of packed rows that hold about one step's examples."""
        mean = sum(w.logical_tokens for w in self.work) / len(self.work)
        return max(self.longest, 256 * round(mean / 256))

    def needed(self, shape: Shape, *, shared: bool) -> list[float]:
        """Floating-point operations that each step needs, with or without computing common prefixes once."""
        return [
            needed_flops(
                shape, tokens=w.shared_tokens if shared else w.logical_tokens,
                pairs=w.shared_pairs if shared else w.logical_pairs, trained_tokens=w.trained_tokens, rank=RANK,
            )
            for w in self.work
        ]  # fmt: skip


def prepare(case: Case, model: Path, steps: int, *, smoke: bool) -> Prepared:
    """Make `case` ready for `steps` optimizer steps; once, unless something that decides it has changed. Raises Unprepared."""
    try:
        chats = data_sets.write(case.data, CACHE / "data", longest_text=100 if smoke else None)
    except data_sets.Absent as absent:
        raise Unprepared(str(absent)) from absent
    sources = [chats, HERE / "prepare.py", *(HERE.parents[1] / "src" / "feinschliff" / f for f in _DECIDING)]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:8]
    folder = CACHE / "prepared" / f"{case.data}-{case.batch}x{steps}-{digest}"
    if not (folder / "steps.json").exists():
        command = [
            sys.executable, str(HERE / "prepare.py"), str(chats), str(model), str(folder),
            "--batch", str(case.batch), "--steps", str(steps), "--max-tokens", str(MAX_TOKENS),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unprepared((done.stderr.strip().splitlines() or ["no message"])[-1])
    work = json.loads((folder / "steps.json").read_text(encoding="utf-8"))
    return Prepared(folder, case, tuple(StepWork(**w) for w in work))

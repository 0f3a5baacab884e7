"""The model of the lowest validation loss so far, kept on disk until the run ends."""
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class BestModel:
    """`folder/step-N`. A newer one is written before the run's state names it, and the older removed only afterwards.

    So whatever state a killed run goes on from, the model that it calls the best is there.
    """

    folder: Path

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step}"

    def copy(self, step: int, target: Path) -> None:
        shutil.copytree(self.path(step), target)

    def keep_only(self, step: int | None) -> None:
        """Remove every other one; None removes all."""
        if step is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        for other in self.folder.glob("step-*"):
            if other != self.path(step):
                shutil.rmtree(other)

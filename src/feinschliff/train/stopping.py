"""What the validations so far say: which step was the best, and whether it is time to stop."""
import math
from dataclasses import dataclass, replace

from feinschliff.core.jobs import EarlyStopping


@dataclass(frozen=True, slots=True)
class Watch:
    """A fold over (step, validation loss). Saved with the run's state, so a resumed run stops where the whole one does."""

    best_step: int | None = None
    best_loss: float = math.inf
    mark: float = math.inf  # the last loss that was lower by more than min_delta; patience counts from there
    n_since_mark: int = 0

    def seen(self, step: int, loss: float, stopping: EarlyStopping | None) -> "Watch":
        """With one more validation. `best_step` is the lowest loss even where it is lower by less than min_delta."""
        lower = loss < self.best_loss
        now = replace(self, best_step=step if lower else self.best_step, best_loss=min(loss, self.best_loss))
        if loss < self.mark - (stopping.min_delta if stopping else 0.0):
            return replace(now, mark=loss, n_since_mark=0)
        return replace(now, n_since_mark=self.n_since_mark + 1)

    def is_over(self, stopping: EarlyStopping | None) -> bool:
        return stopping is not None and self.n_since_mark >= stopping.patience

"""A remote job's events as our own: the same types that the training program here writes."""
from collections.abc import Iterator

from feinschliff.core.jobs import Started, Step, Told, TrainEvent, Validation
from feinschliff.providers.remote.shapes import Metrics, RemoteEvent

HOSTED = "hosted"  # in place of a precision: which one its provider uses is not told


def key_of(event: TrainEvent) -> str:
    """Equal for what is told again after a restart."""
    if isinstance(event, Told):
        return f"told-{event.id}"
    step = getattr(event, "step", None)
    return event.kind if step is None else f"{event.kind}-{step}"


class Mapping:
    """In the order of the provider's events. What no provider tells (gradients, rates, tokens of a step) is 0."""

    def __init__(self, n_examples: int, n_epochs: float) -> None:
        self._n_examples, self._n_epochs = n_examples, n_epochs
        self._started = False
        self._last = (0, 0)  # created_at and step

    def of(self, event: RemoteEvent) -> Iterator[TrainEvent]:
        metrics = event.data
        if metrics is None or metrics.step is None or metrics.train_loss is None:
            level = "warn" if event.level == "warning" else event.level
            yield Told(id=event.id, message=event.message, level=level)
            return
        total = metrics.total_steps or 0
        if not self._started:
            self._started = True
            yield started(total, self._n_examples)
        yield self._step(event, metrics, metrics.step, metrics.train_loss, total)
        yield from _validation(metrics, metrics.step)

    def _step(self, event: RemoteEvent, metrics: Metrics, step: int, loss: float, total: int) -> Step:
        before, last = self._last
        self._last = event.created_at, step
        seconds = float(max(0, event.created_at - before)) if before else 0.0
        left = max(0, total - step)
        return Step(
            step=step, total_steps=max(total, step), epoch=step / total * self._n_epochs if total else 0.0, train_loss=loss,
            train_token_accuracy=metrics.train_mean_token_accuracy or 0.0, learning_rate=0.0, grad_norm=0.0, trained_tokens=0,
            logical_tokens=0, computed_tokens=0, seconds=seconds, eta_s=seconds / max(1, step - last) * left,
        )  # fmt: skip


def started(total_steps: int, n_examples: int) -> Started:
    return Started(
        total_steps=total_steps, first_step=0, n_examples=n_examples, n_too_long=0, precision=HOSTED, trainable_parameters=0
    )


def _validation(metrics: Metrics, step: int) -> Iterator[Validation]:
    """Of the whole file where that was measured, else of a batch of it; -1 says that neither was."""
    if (metrics.full_valid_loss or 0) < 0 or (metrics.valid_loss or 0) < 0:
        return
    if metrics.full_valid_loss is not None:
        yield Validation(step=step, valid_loss=metrics.full_valid_loss, valid_token_accuracy=metrics.full_valid_mean_token_accuracy or 0.0, n_tokens=0)
    elif metrics.valid_loss is not None:
        yield Validation(step=step, valid_loss=metrics.valid_loss, valid_token_accuracy=metrics.valid_mean_token_accuracy or 0.0, n_tokens=0)

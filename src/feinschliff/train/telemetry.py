"""What a step's event says beside the loss: speed and memory."""
from dataclasses import dataclass

from feinschliff.core.jobs import Method, ResolvedHyperparameters, Step
from feinschliff.train.flops import step_flops
from feinschliff.train.schedule import learning_rate
from feinschliff.train.shape import ModelShape
from feinschliff.train.step import StepResult


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Makes the events of a run's steps."""

    shape: ModelShape
    method: Method
    flops_per_s: float  # of the machine, measured, in the run's precision
    hyperparameters: ResolvedHyperparameters
    total_steps: int
    per_epoch: int

    def event(self, step: int, result: StepResult, *, seconds: float, eta_s: float, memory_bytes: int) -> Step:
        flops = step_flops(
            self.shape, self.method, computed_tokens=result.computed_tokens, trained_rows=result.trained_tokens
        )
        return Step(
            step=step, total_steps=self.total_steps, epoch=step / self.per_epoch, train_loss=result.loss,
            train_token_accuracy=result.accuracy, grad_norm=result.grad_norm,
            learning_rate=learning_rate(step, self.total_steps, self.hyperparameters),
            trained_tokens=result.trained_tokens, logical_tokens=result.logical_tokens,
            computed_tokens=result.computed_tokens, seconds=seconds, eta_s=eta_s,
            logical_tokens_per_s=result.logical_tokens / seconds, computed_tokens_per_s=result.computed_tokens / seconds,
            trained_tokens_per_s=result.trained_tokens / seconds, flops_per_s=flops / seconds,
            speed_fraction=flops / seconds / self.flops_per_s, memory_bytes=memory_bytes,
        )  # fmt: skip

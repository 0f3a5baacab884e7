"""One optimizer step, however many micro-batches it is cut into."""
from dataclasses import dataclass, replace

import torch

from feinschliff.core.chat import Rendered
from feinschliff.core.errors import TrainingFailed
from feinschliff.train.batches import microbatches
from feinschliff.train.model import Trainable
from feinschliff.train.parallel import ALONE, Ranks
from feinschliff.train.sharding import whole


@dataclass(frozen=True, slots=True)
class StepResult:
    """Sums over one optimizer step."""

    loss: float  # mean over trained tokens
    accuracy: float
    grad_norm: float
    trained_tokens: int
    logical_tokens: int
    computed_tokens: int


def optimizer_step(
    model: Trainable, optimizer: torch.optim.Optimizer, examples: list[Rendered], *,
    rate: float, max_grad_norm: float, budget_tokens: int, ranks: Ranks = ALONE,
) -> StepResult:  # fmt: skip
    """One update from `examples`; the loss is the mean over all their trained tokens, however the step is cut or divided.

    Raises TrainingFailed when the gradient is not finite.
    """
    trees = list(microbatches(ranks.share(examples), budget_tokens))
    (total_weight,) = ranks.total(sum(float(t.weights_R.sum()) for t in trees))
    loss_sum, n_correct = 0.0, 0
    for tree in ranks.passes(trees):
        loss, correct = model.loss(replace(tree, weights_R=tree.weights_R / total_weight))
        loss.backward()
        loss_sum += loss.item()
        n_correct += correct
    loss_sum, n_correct, n_trained, logical, computed = ranks.total(
        loss_sum, n_correct, sum(len(t.rows_R) for t in trees), sum(t.logical_tokens for t in trees), sum(len(t) for t in trees)
    )
    parameters = list(model.parameters().values())
    ranks.sum_gradients(parameters)
    norm = float(whole(torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm, foreach=True)))
    if not (norm < float("inf")):
        raise TrainingFailed(
            f"The gradient is not finite (loss {loss_sum}).", hint="Lower learning_rate, or train in fp32 (precision)."
        )
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    model.after_update()
    return StepResult(
        loss=loss_sum, accuracy=n_correct / max(1, n_trained), grad_norm=norm, trained_tokens=int(n_trained),
        logical_tokens=int(logical), computed_tokens=int(computed),
    )  # fmt: skip

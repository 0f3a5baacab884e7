"""How well the model does on examples that it is not trained on."""
import math

import torch

from feinschliff.core.chat import Rendered
from feinschliff.core.errors import TrainingFailed
from feinschliff.core.jobs import Validation
from feinschliff.train.batches import microbatches
from feinschliff.train.model import Trainable
from feinschliff.train.parallel import ALONE, Ranks


@torch.no_grad()
def validate(
    model: Trainable, examples: tuple[Rendered, ...], step: int, budget_tokens: int, ranks: Ranks = ALONE
) -> Validation:
    """Mean loss and token accuracy over all of `examples`. Raises TrainingFailed when the loss is not finite."""
    loss_sum, weight, n_correct, n_tokens = 0.0, 0.0, 0, 0
    for tree in ranks.passes(list(microbatches(ranks.share(examples), budget_tokens))):
        loss, correct = model.loss(tree)
        loss_sum += loss.item()
        weight += float(tree.weights_R.sum())
        n_correct += correct
        n_tokens += len(tree.rows_R)
    loss_sum, weight, n_correct, n_tokens = ranks.total(loss_sum, weight, n_correct, n_tokens)
    if not math.isfinite(loss_sum):
        raise TrainingFailed(f"The validation loss is not finite after step {step}.", hint="Lower learning_rate.")
    return Validation(
        step=step, valid_loss=loss_sum / max(weight, 1e-9), valid_token_accuracy=n_correct / max(1, n_tokens), n_tokens=int(n_tokens)
    )

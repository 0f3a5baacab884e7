"""A learning-rate range probe: a few dozen steps with exponentially rising rate, then everything is put back.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks" (arXiv 1506.01186), section 3.3; smoothing and the choice
of a tenth of the rate with the lowest loss as in fastai's `lr_find`.
"""
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch

from feinschliff.core.errors import TrainingFailed
from feinschliff.core.jobs import LrProbe, ResolvedHyperparameters
from feinschliff.train.batches import Batches
from feinschliff.train.model import Trainable
from feinschliff.train.parallel import ALONE, Ranks
from feinschliff.train.step import optimizer_step

STEPS = 41
SPAN = 100.0  # the range is from middle / SPAN to middle · SPAN
EXAMPLES = 8  # at most, in a step
SMOOTHING = 0.8  # weight of the past in the running mean of the losses
DIVERGED = 3.0  # times the lowest smoothed loss
FALL = 0.98  # of the first smoothed loss; a minimum above it is noise

Curve = Sequence[tuple[float, float]]  # (rate, loss before the update with it)


@dataclass(frozen=True, slots=True)
class Choice:
    learning_rate: float
    reason: str


def probe(
    model: Trainable, batches: Batches, h: ResolvedHyperparameters, budget_tokens: int, ranks: Ranks = ALONE
) -> LrProbe:
    """Find a rate around `h.learning_rate`; parameters and the random state are afterwards what they were.

    Needs one more copy of the trained parameters, and the time of at most STEPS small steps.
    """
    t0 = time.monotonic()
    before = {name: p.detach().clone() for name, p in model.parameters().items()}
    random = model.device.random_states()
    try:
        curve = _climb(model, batches, h, budget_tokens, ranks)
    finally:
        with torch.no_grad():
            for name, p in model.parameters().items():
                p.copy_(before[name])
                p.grad = None
        model.after_update()
        model.device.set_random_states(random)
    choice = choose(curve, h.learning_rate)
    return LrProbe(learning_rate=choice.learning_rate, reason=choice.reason, curve=tuple(curve), seconds=time.monotonic() - t0)


def _climb(
    model: Trainable, batches: Batches, h: ResolvedHyperparameters, budget_tokens: int, ranks: Ranks
) -> list[tuple[float, float]]:
    optimizer = torch.optim.AdamW(list(model.parameters().values()), lr=0.0, weight_decay=h.weight_decay, fused=True)
    curve: list[tuple[float, float]] = []
    for i in range(STEPS):
        rate = h.learning_rate * SPAN ** (2 * i / (STEPS - 1) - 1)
        examples = batches.at(i % (batches.per_epoch * h.n_epochs))[:EXAMPLES]
        try:
            result = optimizer_step(
                model, optimizer, examples, rate=rate, max_grad_norm=h.max_grad_norm, budget_tokens=budget_tokens, ranks=ranks
            )
        except TrainingFailed:  # the gradient is not finite any more: the end of the range
            break
        if result.trained_tokens:
            curve.append((rate, result.loss))
        if not math.isfinite(result.loss) or _diverged(curve):
            break
    return [(rate, loss) for rate, loss in curve if math.isfinite(loss)]


def choose(curve: Curve, middle: float) -> Choice:
    """A tenth of the rate at which the smoothed loss was lowest; `middle` where the loss never fell."""
    if len(curve) < 2:
        return Choice(middle, "the probe broke off at once; the rate stays")
    smooth = smoothed([loss for _, loss in curve])
    lowest = min(range(len(smooth)), key=smooth.__getitem__)
    if smooth[lowest] > FALL * smooth[0]:
        return Choice(middle, f"the loss did not fall in the probe (from {smooth[0]:.3g} to {smooth[lowest]:.3g} at best); the rate stays")
    rate = float(f"{curve[lowest][0] / 10:.3g}")
    return Choice(rate, f"a tenth of {curve[lowest][0]:.3g}, where the probe's smoothed loss was lowest ({smooth[lowest]:.3g}, at first {smooth[0]:.3g})")


def smoothed(losses: Sequence[float]) -> list[float]:
    """Exponential running mean, corrected for its start."""
    mean = 0.0
    result: list[float] = []
    for n, loss in enumerate(losses, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        result.append(mean / (1 - SMOOTHING**n))
    return result


def _diverged(curve: Curve) -> bool:
    smooth = smoothed([loss for _, loss in takewhile(lambda point: math.isfinite(point[1]), curve)])
    return bool(smooth) and smooth[-1] > DIVERGED * min(smooth)

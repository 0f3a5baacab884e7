"""Learning-rate schedules: linear warm-up, then constant, linear or cosine decay to zero."""
import math

from feinschliff.core.jobs import ResolvedHyperparameters


def learning_rate(step: int, total_steps: int, h: ResolvedHyperparameters) -> float:
    """Rate for the 1-based update `step` of `total_steps`."""
    warmup = math.ceil(h.warmup_ratio * total_steps)
    if step <= warmup:
        return h.learning_rate * step / warmup
    progress = (step - warmup - 1) / max(1, total_steps - warmup)
    if h.schedule == "constant":
        return h.learning_rate
    if h.schedule == "linear":
        return h.learning_rate * (1 - progress)
    return h.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

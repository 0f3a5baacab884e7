"""Hyperparameters left to "auto", resolved by rules of thumb: a pure function of the data, the model and the method.

Sources:
[1] OpenAI Cookbook: the number of epochs (`catalog.workload`).
[2] OpenAI's legacy fine-tuning guide: batches of about 0.2 % of the examples, at most 256.
[3] Schulman and Thinking Machines Lab, "LoRA Without Regret" (2025): LoRA wants about ten times the rate of full fine-tuning,
    whatever the rank (at alpha 32, scale alpha / rank), and tolerates large batches less.
[4] Thinking Machines Lab, Tinker documentation and cookbook (`hyperparam_utils`), fitted on their sweeps:
    rate = 5e-5 · (10 for LoRA) · (2000 / hidden size) ^ (0.781 for Llama, 0.0775 for Qwen); at least 100 updates.
[own] The floor of 8 examples and of 256 trained tokens an update, and Llama's exponent for every family but Qwen.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from feinschliff.catalog.workload import auto_epochs
from feinschliff.core.chat import Rendered
from feinschliff.core.jobs import Full, Hyperparameters, Lora, Method, ResolvedHyperparameters
from feinschliff.train.shape import ModelShape

MIN_UPDATES = 100
MIN_TOKENS = 256  # trained, in an update: a gradient of a few one-token labels is mostly noise
MIN_BATCH = 8


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the rules look at."""

    n_examples: int
    trained_tokens: int  # in one pass
    hidden: int  # the model's width, the measure of its size in [4]
    family: str
    method: Method

    @classmethod
    def of(cls, examples: Sequence[Rendered], shape: ModelShape, method: Method) -> "Facts":
        return cls(len(examples), sum(e.n_trained for e in examples), shape.hidden, shape.family, method)


def resolve(h: Hyperparameters, facts: Facts) -> ResolvedHyperparameters:
    """Numbers for every "auto"; what was given stays. The reasons name the rule and its source."""
    reasons: list[str] = []
    n_epochs, batch_size, rate = h.n_epochs, h.batch_size, h.learning_rate
    if n_epochs == "auto":
        n_epochs = auto_epochs(facts.n_examples)
        reasons.append(f"n_epochs {n_epochs}: {facts.n_examples:,} examples; 3 passes, but 100 to 25,000 examples in all [OpenAI Cookbook]")
    if batch_size == "auto":
        batch_size, why = _batch(facts, n_epochs)
        reasons.append(f"batch_size {batch_size}: {why}")
    if rate == "auto":
        rate, why = _rate(facts)
        if h.learning_rate_multiplier != 1:
            rate, why = rate * h.learning_rate_multiplier, f"{h.learning_rate_multiplier:g} × {why}"
        reasons.append(f"learning_rate {rate:g}: {why}")
    return ResolvedHyperparameters(
        n_epochs=n_epochs, batch_size=batch_size, learning_rate=rate, schedule=h.schedule, warmup_ratio=h.warmup_ratio,
        weight_decay=h.weight_decay, max_grad_norm=h.max_grad_norm, reasons=tuple(reasons),
    )  # fmt: skip


def _batch(facts: Facts, n_epochs: int) -> tuple[int, str]:
    """A power of two: 0.2 % of the examples and the floors, below what would leave too few updates, and the method's cap."""
    per_example = max(1.0, facts.trained_tokens / facts.n_examples)
    cap = 32 if isinstance(facts.method, Lora) else 256
    wanted = max(MIN_BATCH, 0.002 * facts.n_examples, MIN_TOKENS / per_example)
    afforded = facts.n_examples * n_epochs / MIN_UPDATES
    size = _power_of_two(min(wanted, afforded, cap))
    return size, (
        f"0.2 % of the examples [OpenAI], at least {MIN_BATCH} and {MIN_TOKENS} trained tokens ({per_example:.0f} an example), "
        f"at most {cap} with {facts.method.kind} [LoRA Without Regret] and what leaves {MIN_UPDATES} updates [Tinker]"
    )


def _power_of_two(x: float) -> int:
    """The largest that is not above x; at least 1."""
    return 1 << (max(1, int(x)).bit_length() - 1)


def _rate(facts: Facts) -> tuple[float, str]:
    exponent = 0.0775 if facts.family.startswith("qwen") else 0.781
    full = 5e-5 * (2000 / facts.hidden) ** exponent
    formula = f"5e-5 · (2000 / {facts.hidden}) ^ {exponent}"
    method = facts.method
    match method:
        case Full():
            rate = full
        case Lora():
            # Adam's first steps move the product B·A by rate · scale · rank; the sources have scale · rank = 32.
            reach = method.scale * method.rank
            rate = full * 10 * 32 / reach
            formula += f" · 10 for LoRA · 32 / {reach:g} (scale · rank)"
        case _:
            assert_never(method)
    return float(f"{rate:.3g}"), f"{formula} [Tinker]"

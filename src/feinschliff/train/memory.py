"""What a micro-batch costs in memory, and from that: how large it may be, and whether layers are recomputed.

The costs of a forward and backward pass are measured on three small probe trees, not derived from a formula, so they hold
for whatever layers the model has, however fused. Everything grows linearly with the tokens, and a block's scores with the
longest path, phase by phase; the peak is the largest phase (a phase: from one layer's beginning to the next one's, forward
and back).
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from feinschliff.catalog.available import map_large_blocks
from feinschliff.core.chat import Rendered
from feinschliff.core.errors import TrainingFailed
from feinschliff.core.jobs import Auto, Started, TrainEvent
from feinschliff.nn.blocks import ROWS
from feinschliff.nn.recompute import layers, recompute
from feinschliff.nn.tree import pack
from feinschliff.train.live_bytes import phases
from feinschliff.train.model import Trainable
from feinschliff.train.parallel import Ranks
from feinschliff.train.state import Cut

MOST_TOKENS = 8192  # computed in one forward pass; larger passes are not faster
SHARE = 0.8  # of the available memory; the rest is for the allocator's fragmentation, kernels' workspace, and others
PROBE = ROWS  # tokens of a probe's branch: a whole block of queries
WORKSPACE = 64_000_000  # bytes; of matrix products and generated code, whatever the size of a batch
# Resident over live bytes. glibc's heap keeps holes between activations of many sizes (benchmarks/memory.py: 1.26 to 1.36);
# with recomputed layers it would be 2 to 4, so there blocks from 2 MB are mapped one by one (from 128 kB: 1.0, but a third slower).
SLACK = {False: 1.33, True: 1.6}
TRAINED = 128  # rows of every probe: as many as a chunk of logits, so that those count as a constant


@dataclass(frozen=True, slots=True)
class Phase:
    """Bytes at the peak of one phase: constant + per_token · T + per_place · (longest path beyond PROBE)."""

    constant: float
    per_token: float
    per_place: float = 0.0


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that training takes on top of the loaded weights.

    `held_bytes` last as long as the run: gradients and AdamW's two moments, as large as the trained parameters each.
    `per_row` is what a trained row adds beyond the first TRAINED: its final state and that state's gradient.
    """

    held_bytes: int
    phases: tuple[Phase, ...]
    per_row: int
    workspace: int = 0
    slack: float = 1.0

    def live(self, n_tokens: int, n_rows: int, longest: int) -> int:
        """Bytes of tensors at the peak of a micro-batch of `n_tokens` computed tokens, `n_rows` of them trained, paths up to `longest`."""
        further = max(0, longest - PROBE)
        peak = max(p.constant + p.per_token * n_tokens + p.per_place * further for p in self.phases)
        return int(peak) + self.per_row * max(0, n_rows - TRAINED)

    def needs(self, n_tokens: int, n_rows: int, longest: int) -> int:
        """Bytes of memory for steps whose micro-batches are at most such ones."""
        return self.held_bytes + self.workspace + int(self.slack * self.live(n_tokens, n_rows, longest))

    def fits(self, n_bytes: int, longest: int) -> int:
        """The most tokens, all of them trained, that `n_bytes` are enough for; 0: not one."""
        lo, hi = 0, MOST_TOKENS
        while lo < hi:
            middle = (lo + hi + 1) // 2
            enough = self.needs(middle, middle, min(middle, longest)) <= n_bytes
            lo, hi = (middle, hi) if enough else (lo, middle - 1)
        return lo


def held_bytes(model: Trainable) -> int:
    """Gradients and AdamW's two moments: three times the trained parameters."""
    return 3 * sum(p.numel() * p.element_size() for p in model.parameters().values())


def footprint(model: Trainable, *, recomputed: bool) -> Footprint:
    """Measure `model` by forward and backward passes of one branch, two, and one twice as long; nothing in it changes."""
    parameters = list(model.parameters().values())
    for p in parameters:
        p.grad = torch.zeros_like(p)  # as it is from a step's second micro-batch on
    recompute(model.decoder.body, on=recomputed)
    try:
        one, two, long = _probe(model, 1, PROBE), _probe(model, 2, PROBE), _probe(model, 1, 2 * PROBE)
    finally:
        recompute(model.decoder.body, on=False)
        for p in parameters:
            p.grad = None
    wide = max(4, model.decoder.dtype.itemsize)  # of the residual stream
    return Footprint(
        held_bytes=held_bytes(model),
        phases=tuple(Phase(2 * a - b, (b - a) / PROBE, (c - b) / PROBE) for a, b, c in zip(one, two, long, strict=True)),
        per_row=model.decoder.head.shape[1] * (wide + model.decoder.dtype.itemsize),
        workspace=WORKSPACE,
        slack=SLACK[recomputed],
    )


def _probe(model: Trainable, n_branches: int, n_tokens: int) -> list[int]:
    """Peak bytes per phase for branches of `n_tokens`, with TRAINED trained rows in all."""
    vocabulary, n_trained = model.decoder.head.shape[0], TRAINED // n_branches
    weights = [0.0] * (n_tokens + 1 - n_trained) + [1.0] * n_trained
    branches = [Rendered([(b + t) % vocabulary for t in range(n_tokens + 1)], weights) for b in range(n_branches)]
    return phases(layers(model.decoder.body), lambda: model.loss(pack(branches))[0], model.device.meter())


@dataclass(frozen=True, slots=True)
class Asked:
    """What the spec says, and the data's sizes in tokens: of the longest example, and of the largest step."""

    budget_tokens: int | Auto
    recompute: bool | Auto
    longest: int
    step: int


def cut_for(model: Trainable, variants: Sequence[Sequence[Rendered]], batch_size: int) -> Cut:
    """How `model`'s spec is cut on this machine, now. `variants` are the training examples.

    Nothing is measured where the spec leaves no choice, nor for weights that are going to be sharded. Raises TrainingFailed, with the numbers, where nothing fits.
    """
    spec = model.spec
    lengths = [sorted(len(e.tokens) for e in variant)[-batch_size:] for variant in variants]
    asked = Asked(
        spec.budget_tokens, spec.gradient_checkpointing, longest=max(x[-1] for x in lengths), step=max(map(sum, lengths))
    )
    if asked.budget_tokens != "auto" and asked.recompute != "auto":
        return Cut(asked.budget_tokens, asked.recompute)
    if spec.sharding == "full":
        return Cut(MOST_TOKENS if asked.budget_tokens == "auto" else asked.budget_tokens, asked.recompute is True)
    available = model.device.available_bytes()
    if held_bytes(model) > SHARE * available:  # the measurement itself would not fit
        raise _too_large(held_bytes(model), held_bytes(model), 0, available, asked)
    return choose(asked, lambda recomputed: footprint(model, recomputed=recomputed), available)


def as_before(now: Cut, earlier: Sequence[TrainEvent]) -> Cut:
    """The cut of the run's first start, where it still fits into what there is `now`: sums over other micro-batches round otherwise, and
    a run that was killed before its first saved state shall end with the same bits.
    """
    first = next((e for e in earlier if isinstance(e, Started)), None)
    if first is None or first.budget_tokens is None:
        return now
    before = Cut(first.budget_tokens, first.gradient_checkpointing)
    fits = before.budget_tokens <= now.budget_tokens if before.recompute == now.recompute else before.recompute
    return before if fits else now


def apply(cut: Cut, model: Trainable) -> None:
    """Make `model` recompute its layers, or not, and the heap fit for it."""
    recompute(model.decoder.body, on=cut.recompute)
    if cut.recompute:
        map_large_blocks()


def agreed(cut: Cut, ranks: Ranks) -> Cut:
    """The first rank's cut."""
    budget_tokens, recomputed = ranks.agreed(f"{cut.budget_tokens} {int(cut.recompute)}").split()
    return Cut(int(budget_tokens), recomputed == "1")


def choose(asked: Asked, footprint: Callable[[bool], Footprint], available: int) -> Cut:
    """The largest micro-batches that fit into SHARE of `available` bytes; layers are recomputed if it can't be done without.

    A budget that the user gives is kept. `footprint(recomputed)` is asked for the second way only where the first is too large.
    Raises TrainingFailed, with the numbers, where not even one example fits, or not what the user gave.
    """
    usable = int(SHARE * available)
    needed = asked.longest if asked.budget_tokens == "auto" else max(asked.longest, min(asked.budget_tokens, asked.step))
    recomputed = asked.recompute is True
    cost = footprint(recomputed)
    if asked.recompute == "auto" and cost.needs(needed, needed, asked.longest) > usable:
        recomputed = True
        cost = footprint(recomputed)
    if cost.needs(needed, needed, asked.longest) > usable:
        raise _too_large(cost.needs(needed, needed, asked.longest), cost.held_bytes, cost.fits(usable, asked.longest), available, asked)
    return Cut(cost.fits(usable, asked.longest) if asked.budget_tokens == "auto" else asked.budget_tokens, recomputed)


def _too_large(needs: int, held: int, fits: int, available: int, asked: Asked) -> TrainingFailed:
    ways = [f"max_tokens {fits}" if asked.longest > fits else f"budget_tokens {fits}"] if fits else []
    ways += ['gradient_checkpointing "auto"'] if asked.recompute is False else []
    return TrainingFailed(
        f"Training does not fit into memory: it needs {needs / 1e9:.1f} GB besides the model, {held / 1e9:.1f} GB of it for "
        f"gradients and optimizer, and {available / 1e9:.1f} GB are free, of which {SHARE:.0%} are used. "
        f"The longest example has {asked.longest} tokens.",
        hint=f"Try {', '.join([*ways, 'LoRA with a smaller rank', 'a smaller model'])}, or free memory.",
    )

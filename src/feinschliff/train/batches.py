"""Which examples make which optimizer step, and how a step is cut to fit into memory. All of it derived from the seed."""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from feinschliff.core.chat import Rendered
from feinschliff.core.jobs import Grouping
from feinschliff.nn.tree import Packed, pack
from feinschliff.train.grouping import Marks, cut, grouped_batches, order, prefix_marks


@dataclass(slots=True)
class Batches:
    """The examples of every step. `variants` are row-aligned renderings in different contexts.

    A batch is all of one context, because its examples then share their prompt; contexts take turns from batch to batch.
    `grouping` "step" shuffles an epoch freely; "epoch" brings examples of the first variant with long common prefixes together.
    """

    variants: Sequence[Sequence[Rendered]]
    batch_size: int
    seed: int
    grouping: Grouping = "step"
    _marks: list[Marks] = field(init=False, default_factory=list)
    _epoch: int = field(init=False, default=-1)
    _chosen: list[list[int]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        if self.grouping == "epoch":
            self._marks = prefix_marks(self.variants[0])

    @property
    def per_epoch(self) -> int:
        """Steps. The last, smaller batch counts: no example is left out."""
        return -(-len(self.variants[0]) // self.batch_size)

    def at(self, step: int) -> list[Rendered]:
        """The examples of 0-based `step`."""
        epoch, within = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._chosen = epoch, self._of_epoch(epoch)
        context = self.variants[(within + epoch) % len(self.variants)]
        return [context[i] for i in self._chosen[within]]

    def _of_epoch(self, epoch: int) -> list[list[int]]:
        if self.grouping == "epoch":
            return grouped_batches(self._marks, self.batch_size, self.seed, epoch)
        return cut(order(len(self.variants[0]), self.seed, epoch), self.batch_size)


def microbatches(examples: Sequence[Rendered], budget_tokens: int) -> Iterator[Packed]:
    """Prefix trees that together hold `examples`, each of at most `budget_tokens` computed tokens where possible.

    Sorted first, so that examples with a common prefix stay together when a step is cut.
    """
    if not examples:
        return
    packed = pack(examples)
    if len(packed) <= budget_tokens or len(examples) == 1:
        yield packed
        return
    ordered = sorted(examples, key=lambda e: list(e.tokens))
    half = len(ordered) // 2
    yield from microbatches(ordered[:half], budget_tokens)
    yield from microbatches(ordered[half:], budget_tokens)

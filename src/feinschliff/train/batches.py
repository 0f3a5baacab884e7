"""Which examples make which optimizer step, and how a step is cut to fit into memory. All of it derived from the seed."""
from collections.abc import Iterator, Sequence

import torch

from feinschliff.core.chat import Rendered
from feinschliff.nn.tree import Packed, pack


def steps_per_epoch(n_examples: int, batch_size: int) -> int:
    """The last, smaller batch counts: no example is left out."""
    return -(-n_examples // batch_size)


def order(n_examples: int, seed: int, epoch: int) -> list[int]:
    """The epoch's permutation; a function of seed and epoch alone, so a resumed run sees the same one."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(n_examples, generator=generator).tolist()


def batch(variants: Sequence[Sequence[Rendered]], step: int, batch_size: int, seed: int) -> list[Rendered]:
    """The examples of 0-based `step`. `variants` are row-aligned renderings in different contexts.

    A batch is all of one context, because its examples then share their prompt; contexts take turns from batch to batch.
    """
    n_examples = len(variants[0])
    epoch, within = divmod(step, steps_per_epoch(n_examples, batch_size))
    chosen = order(n_examples, seed, epoch)[within * batch_size : (within + 1) * batch_size]
    context = variants[(within + epoch) % len(variants)]
    return [context[i] for i in chosen]


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

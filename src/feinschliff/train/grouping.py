"""An epoch's order: shuffled, or with examples that have long common prefixes together and everything else shuffled."""
from array import array
from collections.abc import Sequence
from hashlib import blake2b

import torch

from feinschliff.core.chat import Rendered

BLOCK = 64  # tokens; a shorter common prefix saves too little to bring examples together (nn.tree.MIN_SAVING)

Marks = tuple[bytes, ...]  # of an example's prefixes of 64, 128, … tokens


def order(n_examples: int, seed: int, epoch: int) -> list[int]:
    """The epoch's permutation; a function of seed and epoch alone, so a resumed run sees the same one."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(n_examples, generator=generator).tolist()


def cut(examples: Sequence[int], batch_size: int) -> list[list[int]]:
    """Consecutive pieces; the last may be smaller."""
    return [list(examples[i : i + batch_size]) for i in range(0, len(examples), batch_size)]


def prefix_marks(examples: Sequence[Rendered]) -> list[Marks]:
    """Digests by which two examples have as many leading marks in common as they share whole blocks of tokens."""
    return [_marks(e.tokens) for e in examples]


def _marks(tokens: Sequence[int]) -> Marks:
    running = blake2b(digest_size=8)
    marks = []
    for end in range(BLOCK, len(tokens) + 1, BLOCK):
        running.update(array("q", tokens[end - BLOCK : end]).tobytes())
        marks.append(running.digest())
    return tuple(marks)


def grouped_order(marks: Sequence[Marks], seed: int, epoch: int) -> list[int]:
    """A permutation in which all examples under one prefix are contiguous, at every depth; random otherwise.

    Every prefix draws a number from (seed, epoch), and examples are sorted by the numbers along their path: a shuffle of the
    prefix tree's branches at each node.
    """
    key = f"{seed} {epoch}".encode()
    drawn = {mark: _drawn(key, mark) for path in set(marks) for mark in path}
    own = [_drawn(key, b"example %d" % i) for i in range(len(marks))]
    return sorted(range(len(marks)), key=lambda i: (*(drawn[m] for m in marks[i]), own[i]))


def _drawn(key: bytes, what: bytes) -> bytes:
    return blake2b(what, digest_size=8, key=blake2b(key, digest_size=16).digest()).digest()


def grouped_batches(marks: Sequence[Marks], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The epoch's steps: consecutive pieces of the grouped order, in shuffled order; each example once."""
    pieces = cut(grouped_order(marks, seed, epoch), batch_size)
    return [pieces[i] for i in order(len(pieces), seed, epoch)]

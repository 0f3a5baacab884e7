"""Examples as a prefix tree: tokens that several examples share are computed once.

A batch of token sequences becomes a trie whose nodes are runs of tokens, laid out depth-first in one packed row of
T tokens without padding. A token attends to its own node causally and to all of every ancestor node, and its position
counts along the path, so each example sees exactly what it would see alone. Depth-first order makes the descendants of
a node contiguous: "all queries below node n" is a slice.
"""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from feinschliff.core.chat import Rendered

MIN_SAVING = 16  # tokens; a shared node costs its examples' blocks one more range of keys to join


@dataclass(frozen=True, slots=True)
class Node:
    """Packed tokens [start, end); its descendants are [end, subtree_end)."""

    start: int
    end: int
    subtree_end: int


@dataclass(frozen=True, slots=True)
class Packed:
    """A prefix tree in depth-first order, with what is trained.

    tokens_T and positions_T are int64. Row r of the loss predicts targets_R[r] from packed token rows_R[r], weighted by
    weights_R[r]. An example keeps its own target at a branch point: the same packed row then occurs several times.
    """

    tokens_T: Tensor
    positions_T: Tensor
    nodes: tuple[Node, ...]
    rows_R: Tensor
    targets_R: Tensor
    weights_R: Tensor
    logical_tokens: int  # what separate examples would compute

    def __len__(self) -> int:
        return self.tokens_T.shape[0]

    def to(self, device: torch.device) -> "Packed":
        """The same with its tensors on `device`; plans are made from the one on the CPU."""
        names = ("tokens_T", "positions_T", "rows_R", "targets_R", "weights_R")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @property
    def longest_path(self) -> int:
        return int(self.positions_T.max()) + 1

    def path(self, row: int) -> list[int]:
        """Packed rows from the first token to `row`, as the example sees them."""
        return [
            i for n in self.nodes if n.start <= row < n.subtree_end for i in range(n.start, min(n.end, row + 1))
        ]

    def dense_mask(self, window: int | None = None) -> Tensor:
        """(T, T) bool, True where row attends to column. For sliding windows, and the oracle of the tests."""
        T = len(self)
        mask = torch.zeros(T, T, dtype=torch.bool)
        for node in self.nodes:
            mask[node.end : node.subtree_end, node.start : node.end] = True
            n = node.end - node.start
            mask[node.start : node.end, node.start : node.end] = torch.ones(n, n, dtype=torch.bool).tril()
        if window is not None:
            distance = self.positions_T[:, None] - self.positions_T[None, :]
            mask &= distance < window
        return mask


def pack(examples: Sequence[Rendered], *, share: bool = True, min_saving: int = MIN_SAVING) -> Packed:
    """Lay examples out as one prefix tree (`share=False`: as separate branches, for comparison)."""
    inputs = [tuple(e.tokens[: max((i for i, w in enumerate(e.weights) if w > 0), default=0)]) for e in examples]
    builder = _Builder(inputs)
    order = sorted(range(len(inputs)), key=lambda i: inputs[i]) if share else range(len(inputs))
    if share:
        builder.add_group(list(order), depth=0, min_saving=min_saving)
    else:
        for i in order:
            builder.add_group([i], depth=0, min_saving=min_saving)
    rows: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    for example, where in zip(examples, builder.paths, strict=True):
        for t, weight in enumerate(example.weights):
            if weight > 0 and t > 0:
                rows.append(where[t - 1])
                targets.append(example.tokens[t])
                weights.append(weight)
    return Packed(
        tokens_T=torch.tensor(builder.tokens, dtype=torch.int64),
        positions_T=torch.tensor(builder.positions, dtype=torch.int64),
        nodes=tuple(builder.nodes),
        rows_R=torch.tensor(rows, dtype=torch.int64),
        targets_R=torch.tensor(targets, dtype=torch.int64),
        weights_R=torch.tensor(weights, dtype=torch.float32),
        logical_tokens=sum(len(i) for i in inputs),
    )


class _Builder:
    """Grows the packed row; `paths[i][p]` is where token p of example i ended up."""

    def __init__(self, inputs: Sequence[tuple[int, ...]]) -> None:
        self.inputs = inputs
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.nodes: list[Node] = []
        self.paths: list[list[int]] = [[] for _ in inputs]

    def add_group(self, group: list[int], *, depth: int, min_saving: int) -> None:
        """Add sequences `group` (sorted, equal up to `depth`, which is already laid out)."""
        first, last = self.inputs[group[0]], self.inputs[group[-1]]
        common = _common_prefix(first, last)  # of the whole group, because it is sorted
        identical = common == len(last)
        if identical or (common - depth) * (len(group) - 1) >= min_saving:
            start = self._add_tokens(group, first[depth:common], depth)
            index = len(self.nodes)
            self.nodes.append(Node(start, len(self.tokens), len(self.tokens)))
            for child in self._branches(group, common):
                self.add_group(child, depth=common, min_saving=min_saving)
            self.nodes[index] = Node(start, start + common - depth, len(self.tokens))
        else:
            for i in (i for i in group if len(self.inputs[i]) == common):
                self.add_group([i], depth=depth, min_saving=min_saving)
            for child in self._branches(group, common):
                self.add_group(child, depth=depth, min_saving=min_saving)

    def _add_tokens(self, group: list[int], tokens: Sequence[int], depth: int) -> int:
        start = len(self.tokens)
        self.tokens += tokens
        self.positions += range(depth, depth + len(tokens))
        for i in group:
            self.paths[i] += range(start, start + len(tokens))
        return start

    def _branches(self, group: list[int], at: int) -> Iterator[list[int]]:
        """The group parted by its token at `at`; sequences that end there have no branch."""
        branch: list[int] = []
        for i in group:
            if len(self.inputs[i]) <= at:
                continue
            if branch and self.inputs[i][at] != self.inputs[branch[0]][at]:
                yield branch
                branch = []
            branch.append(i)
        if branch:
            yield branch


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)

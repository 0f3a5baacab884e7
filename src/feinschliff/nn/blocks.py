"""Who attends to what in a prefix tree, as blocks of queries with the keys that they see.

Packed rows are cut into runs of queries. A block meets only the key ranges that one of its queries sees along its path;
keys of other branches and beyond a sliding window are never touched. What some query of a block must not see (the
future, a cousin in the same block) lies in its last columns, and is taken away by adding minus infinity there.
"""
from dataclasses import dataclass

import torch
from torch import Tensor

from feinschliff.nn.tree import Packed

ROWS = 128  # queries in a block at most: long nodes skip most of what lies above their diagonal
TILE = 1 << 23  # scores held at once; 16 MB in bfloat16, about what the last-level cache holds. One row may hold more.
CPU = torch.device("cpu")
KEPT = 1 << 25  # elements of masks kept for the next layer; further ones are made again


@dataclass(frozen=True, slots=True)
class Block:
    """Queries [start, end) and the key places that some of them see, as ascending disjoint ranges."""

    start: int
    end: int
    keys: tuple[tuple[int, int], ...]
    n_keys: int


@dataclass(frozen=True, slots=True)
class Mask:
    """What is added to a block's scores (rows, queries of a group, keys) from column `first` on: 0 or minus infinity."""

    first: int
    bias_R1C: Tensor

    def hide(self, scores_NRP: Tensor) -> None:
        """In place, for scores (heads, rows · groups, keys)."""
        scores_NRP.unflatten(1, (len(self.bias_R1C), -1))[..., self.first :].add_(self.bias_R1C)


@dataclass(frozen=True, slots=True)
class Keys:
    """What decides who sees a key, int32, on the CPU; key place p + before is packed row p.

    The query in row s sees the keys of rows up to s that reach beyond s and stand near enough on the path.
    """

    row_K: Tensor
    reach_K: Tensor  # the first row behind all that can see this key
    position_K: Tensor

    @classmethod
    def of(cls, packed: Packed, before: int) -> "Keys":
        """`before` keys stand before the tree, at positions -before … -1 of every path."""
        T = len(packed)
        reach_T = torch.empty(T, dtype=torch.int32)
        for node in packed.nodes:
            reach_T[node.start : node.end] = node.subtree_end
        ahead = torch.arange(-before, 0, dtype=torch.int32)
        return cls(
            torch.cat([ahead, torch.arange(T, dtype=torch.int32)]),
            torch.cat([torch.full_like(ahead, T), reach_T]),
            torch.cat([ahead, packed.positions_T.to(torch.int32)]),
        )


class Plan:
    """The blocks of one packed tree under one window, for models with `groups` query heads to a key head.

    `before` keys stand before the tree, at positions -before … -1 of every path; key place p + before is packed row p.
    Masks are of type `dtype` and on `device`; the planning is done on the CPU, where `packed` is.
    """

    def __init__(
        self, packed: Packed, window: int | None, groups: int, before: int, dtype: torch.dtype, device: torch.device = CPU
    ) -> None:
        self.window, self.before, self.dtype, self._device = window, before, dtype, device
        self._nodes = [n for n in packed.nodes if n.end > n.start]
        self._positions = packed.positions_T.tolist()
        self.keys = Keys.of(packed, before)
        self.blocks = [b for start, end in self._cuts() for b in self._fitting(start, end, groups)]
        self._masks: dict[Block, Mask] = {}
        self._kept = 0

    def mask(self, block: Block) -> Mask:
        """The block's mask, kept for the next layer while there is room."""
        if block in self._masks:
            return self._masks[block]
        hidden = self.hidden(block)
        columns = hidden.any(0).nonzero()
        first = int(columns[0]) if len(columns) else block.n_keys
        hidden = hidden[:, None, first:]
        bias = torch.zeros(hidden.shape, dtype=self.dtype, device=self._device)
        mask = Mask(first, bias.masked_fill_(hidden.to(self._device), float("-inf")))
        if self._kept + hidden.numel() <= KEPT:
            self._kept += hidden.numel()
            self._masks[block] = mask
        return mask

    def hidden(self, block: Block) -> Tensor:
        """(rows, keys) bool, True where a query does not see a key."""
        every = self.keys
        row_K, reach_K, position_K = (rows(x, block.keys) for x in (every.row_K, every.reach_K, every.position_K))
        own = slice(block.start + self.before, block.end + self.before)
        row_S = every.row_K[own, None]
        hidden = (row_K > row_S).logical_or_(reach_K <= row_S)
        if self.window is not None:
            hidden.logical_or_(position_K <= every.position_K[own, None] - self.window)
        return hidden

    def _cuts(self) -> list[tuple[int, int]]:
        """Rows parted into runs of at most ROWS: whole neighbouring nodes where they fit, parts of one node elsewhere."""
        cuts: list[tuple[int, int]] = []
        open_at = 0
        for node in self._nodes:
            if node.end - open_at <= ROWS:
                continue
            if node.start > open_at:
                cuts.append((open_at, node.start))
            whole = node.start + (node.end - node.start) // ROWS * ROWS
            cuts += [(s, s + ROWS) for s in range(node.start, whole, ROWS)]
            open_at = whole
        if open_at < len(self._positions):
            cuts.append((open_at, len(self._positions)))
        return cuts

    def _fitting(self, start: int, end: int, groups: int) -> list[Block]:
        """The run as one block, or halved until one key head's scores fit into TILE."""
        keys = self._seen(start, end)
        n_keys = sum(e - s for s, e in keys)
        if end - start == 1 or groups * (end - start) * n_keys <= TILE:
            return [Block(start, end, keys, n_keys)]
        middle = (start + end) // 2
        return self._fitting(start, middle, groups) + self._fitting(middle, end, groups)

    def _seen(self, start: int, end: int) -> tuple[tuple[int, int], ...]:
        """Key places that any query of [start, end) sees; ranges that touch are joined."""
        found: list[tuple[int, int]] = []
        if self.before:
            found.append((max(0, self.before + self._first(min(self._positions[start:end]))), self.before))
        for node in self._nodes:
            if node.start >= end:
                break
            if node.subtree_end <= start:
                continue
            nearest = min(self._positions[max(start, node.start) : min(end, node.subtree_end)])
            first = node.start + max(0, self._first(nearest) - self._positions[node.start])
            found.append((first + self.before, min(node.end, end) + self.before))
        joined: list[tuple[int, int]] = []
        for first, last in found:
            if first >= last:
                continue
            if joined and joined[-1][1] == first:
                joined[-1] = (joined[-1][0], last)
            else:
                joined.append((first, last))
        return tuple(joined)

    def _first(self, position: int) -> int:
        """The first position of a path that a query at `position` sees (negative: among the keys before the tree)."""
        return -self.before if self.window is None else max(-self.before, position - self.window + 1)


def head_slices(block: Block, n_heads: int, groups: int) -> list[slice]:
    """Key heads taken together: as many as fit into TILE."""
    step = max(1, TILE // (groups * (block.end - block.start) * block.n_keys))
    return [slice(i, min(n_heads, i + step)) for i in range(0, n_heads, step)]


def rows(x: Tensor, ranges: tuple[tuple[int, int], ...], dim: int = 0) -> Tensor:
    """`ranges` of dimension `dim`, one after the other; a view where it is one range."""
    parts = [x.narrow(dim, first, last - first) for first, last in ranges]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def add_rows(total: Tensor, part: Tensor, ranges: tuple[tuple[int, int], ...]) -> None:
    """Add `part` (h, K, d) to the places of `total` that `ranges` name, one after the other."""
    at = 0
    for first, last in ranges:
        total[:, first:last] += part[:, at : at + last - first]
        at += last - first

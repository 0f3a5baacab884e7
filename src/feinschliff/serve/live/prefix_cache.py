"""What earlier requests have read: keys and values by token ids, in blocks, the least recently used thrown away first.

A block stands for BLOCK tokens after everything before them, so blocks form a trie: one is found by its parent and its
tokens (as in vLLM's automatic prefix caching). An adapter changes keys and values, so each adapter has a trie of its own.
"""
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

BLOCK = 16  # tokens


@dataclass(slots=True, eq=False)
class Block:
    """`kv` is (L, 2, Hk, BLOCK, d)."""

    key: Hashable
    parent: "Block | None"
    kv: Tensor
    used: int
    children: dict[Hashable, "Block"] = field(default_factory=dict)


class PrefixCache:
    """Blocks up to `budget` bytes."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._roots: dict[Hashable, dict[Hashable, Block]] = {}
        self._blocks: set[Block] = set()
        self._clock = 0
        self.n_bytes = 0

    def find(self, adapter: Hashable, tokens: Sequence[int], limit: int) -> list[Block]:
        """The longest known beginning of `tokens`, in whole blocks, at most `limit` tokens."""
        self._clock += 1
        level, found = self._roots.get(adapter, {}), list[Block]()
        for start in range(0, limit - BLOCK + 1, BLOCK):
            block = level.get(tuple(tokens[start : start + BLOCK]))
            if block is None:
                break
            block.used = self._clock
            found.append(block)
            level = block.children
        return found

    def add(self, adapter: Hashable, tokens: Sequence[int], known: list[Block], kv: Tensor) -> list[Block]:
        """Add the whole blocks of `tokens` after the `known` ones, whose keys and values are `kv` (L, 2, Hk, n, d).

        Returns the path of blocks as it is now. Blocks that somebody else has added meanwhile stay; where the known ones
        have been thrown away, nothing can be added after them.
        """
        self._clock += 1
        if known and known[-1] not in self._blocks:
            return known
        path = list(known)
        level = path[-1].children if path else self._roots.setdefault(adapter, {})
        for i in range(kv.shape[3] // BLOCK):
            start = len(path) * BLOCK
            key = tuple(tokens[start : start + BLOCK])
            block = level.get(key)
            if block is None:
                own = kv[:, :, :, i * BLOCK : (i + 1) * BLOCK].clone()
                block = level[key] = Block(key, path[-1] if path else None, own, self._clock)
                self._blocks.add(block)
                self.n_bytes += own.numel() * own.element_size()
            block.used = self._clock
            path.append(block)
            level = block.children
        self._shrink()
        return path

    def forget(self, adapter: Hashable) -> None:
        """Drop everything that was read with an adapter."""
        stack = list(self._roots.pop(adapter, {}).values())
        while stack:
            block = stack.pop()
            stack += block.children.values()
            self._drop(block)

    def _shrink(self) -> None:
        while self.n_bytes > self._budget:
            leaves = sorted((b for b in self._blocks if not b.children), key=lambda b: b.used)
            for block in leaves[: max(1, len(leaves) // 8)]:
                self._drop(block)
                if self.n_bytes <= self._budget:
                    break

    def _drop(self, block: Block) -> None:
        self._blocks.discard(block)
        self.n_bytes -= block.kv.numel() * block.kv.element_size()
        if block.parent is not None:
            block.parent.children.pop(block.key, None)
            return
        for level in self._roots.values():
            if level.get(block.key) is block:
                del level[block.key]
                return

"""Keys and values of the conversations in work: a row of slots in one tensor per engine, grown and shrunk by need."""
from dataclasses import dataclass

import torch
from torch import Tensor

STEP = 128  # tokens; slots grow by this


@dataclass(frozen=True, slots=True)
class KvShape:
    """What one token leaves behind: L layers with Hk heads of d numbers, once as key and once as value."""

    layers: int
    heads: int
    head_dim: int
    dtype: torch.dtype

    @property
    def token_bytes(self) -> int:
        return 2 * self.layers * self.heads * self.head_dim * self.dtype.itemsize


class Slots:
    """`data` is (L, 2, S, Hk, C, d): layer, key or value, slot, head, place. What is not filled is zero or old, never NaN."""

    def __init__(self, shape: KvShape) -> None:
        self.shape = shape
        self.data = torch.zeros(shape.layers, 2, 0, shape.heads, 0, shape.head_dim, dtype=shape.dtype)

    @property
    def n_slots(self) -> int:
        return self.data.shape[2]

    @property
    def capacity(self) -> int:
        """Tokens a slot."""
        return self.data.shape[4]

    @property
    def n_bytes(self) -> int:
        return self.data.numel() * self.data.element_size()

    def fit(self, n_slots: int, n_tokens: int) -> None:
        """Make room for `n_tokens`, of the longest conversation, in each of `n_slots`, all that are in use."""
        if n_slots <= self.n_slots and n_tokens <= self.capacity:
            return
        old, s = self.data, self.shape
        S, C = 1 << (n_slots - 1).bit_length(), rounded(n_tokens)  # doubling: what is there is copied each time
        self.data = torch.zeros(s.layers, 2, S, s.heads, C, s.head_dim, dtype=s.dtype)
        S, C = min(S, old.shape[2]), min(C, old.shape[4])
        self.data[:, :, :S, :, :C] = old[:, :, :S, :, :C]

    def clear(self) -> None:
        """Give the memory back; only when no slot is in use."""
        self.data = self.data[:, :, :0, :, :0].clone()

    def move(self, source: int, target: int, n_tokens: int) -> None:
        self.data[:, :, target, :, :n_tokens] = self.data[:, :, source, :, :n_tokens]

    def read(self, slot: int, start: int, end: int) -> Tensor:
        """A copy of what a slot holds from `start` to `end`: (L, 2, Hk, end - start, d)."""
        return self.data[:, :, slot, :, start:end].clone()

    def write(self, slot: int, start: int, kv: Tensor) -> None:
        self.data[:, :, slot, :, start : start + kv.shape[3]] = kv


def rounded(n_tokens: int) -> int:
    """The capacity that holds `n_tokens`."""
    return -(-n_tokens // STEP) * STEP

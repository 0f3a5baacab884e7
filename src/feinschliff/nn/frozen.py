"""A frozen weight W (N, K) with room for s·B (N, R) beside it: as one matrix, or W in 4 bits and made anew for every product."""
from collections.abc import Sequence
from typing import Protocol, Self

import torch
from torch import Tensor

from feinschliff.nn.nf4 import Nf4


class Frozen(Protocol):
    n_in: int  # K

    @property
    def beside_NR(self) -> Tensor:
        """What stands beside W, to be written into."""
        ...

    def extended(self) -> Tensor:
        """(N, K + R), to be read."""
        ...

    def weight(self, rows: slice) -> Tensor:
        """W alone, of one of the weights that were joined."""
        ...

    def make_room(self, rank: int) -> None:
        """Let R = `rank`, with zeros beside W."""
        ...

    @classmethod
    def join(cls, others: Sequence[Self]) -> Self:
        """Their weights one below the other, without what stands beside them."""
        ...


class Dense:
    """W in the products' type."""

    def __init__(self, weight_NK: Tensor) -> None:
        self.n_in = weight_NK.shape[1]
        self._extended_NE = weight_NK

    @property
    def beside_NR(self) -> Tensor:
        return self._extended_NE[:, self.n_in :]

    def extended(self) -> Tensor:
        return self._extended_NE

    def weight(self, rows: slice) -> Tensor:
        return self._extended_NE[rows, : self.n_in]

    def make_room(self, rank: int) -> None:
        if self.beside_NR.shape[1] != rank:
            weight_NK = self.weight(slice(None))
            self._extended_NE = torch.cat([weight_NK, self.beside_NR.new_empty(len(weight_NK), rank)], 1)
        self.beside_NR.zero_()

    @classmethod
    def join(cls, others: Sequence[Self]) -> Self:
        return cls(torch.cat([other.weight(slice(None)) for other in others]))


class Quantised:
    """W in 4 bits, dequantised to `dtype` for each product (QLoRA); joined weights keep the blocks that they had alone."""

    def __init__(self, parts: Sequence[Nf4], dtype: torch.dtype) -> None:
        self.parts = tuple(parts)
        self.n_in = parts[0].shape[1]
        self.beside_NR = parts[0].codes.new_empty(sum(p.shape[0] for p in parts), 0, dtype=dtype)

    def extended(self) -> Tensor:
        extended_NE = self.beside_NR.new_empty(len(self.beside_NR), self.n_in + self.beside_NR.shape[1])
        start = 0
        for part in self.parts:
            part.write(extended_NE[start : start + part.shape[0], : self.n_in])
            start += part.shape[0]
        extended_NE[:, self.n_in :] = self.beside_NR
        return extended_NE

    def weight(self, rows: slice) -> Tensor:
        start = 0
        for part in self.parts:
            if start == rows.start:
                return part.dequantised(self.beside_NR.dtype)
            start += part.shape[0]
        raise IndexError(rows)

    def make_room(self, rank: int) -> None:
        self.beside_NR = self.beside_NR.new_zeros(len(self.beside_NR), rank)

    @classmethod
    def join(cls, others: Sequence[Self]) -> Self:
        return cls([part for other in others for part in other.parts], others[0].beside_NR.dtype)

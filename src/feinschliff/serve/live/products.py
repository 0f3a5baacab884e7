"""Matrix products for rows that use different adapters: the base product once for all, the low-rank ones beside it.

The adapters of the conversations in work are stacked, so that however many there are, a product costs two more: every row is
multiplied by all stacked A, what does not belong to its own adapter is set to zero, and the rest is multiplied by the stacked
B (as Punica and S-LoRA do on a GPU; on a processor reading the weights is what costs, and each is read once).
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from feinschliff.nn.linear import Product

Multiply = Callable[[Tensor], Tensor]
ROWS = 16  # the layout is chosen for about so many
COLUMNS = 256  # of a weight at once


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """One adapter's part in one product: x · Aᵀ · Bᵀ, the adapter's scale in B. DoRA: `stretch_N` lengthens the outputs.

    What an output is multiplied by, before the bias is added, is 1 + stretch. `packed` is for who lays A and B out anew.
    """

    a_RK: Tensor
    b_NR: Tensor
    stretch_N: Tensor | None = None
    packed: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stacked:
    """The parts of several adapters in one product. `owner_R` says which of them a column belongs to.

    `stretch_AN` has a row per adapter and one of zeros, for the rows of the base model, at its end.
    """

    into_low: Multiply
    out_of_low: Multiply
    owner_R: Tensor
    ranks: tuple[int, ...]
    stretch_AN: Tensor | None

    @classmethod
    def of(cls, parts: Sequence[LowRank | None]) -> "Stacked | None":
        there = [(i, p) for i, p in enumerate(parts) if p is not None]
        if not there:
            return None
        ranks = tuple(0 if p is None else p.a_RK.shape[0] for p in parts)
        owner_R = torch.cat([torch.full((p.a_RK.shape[0],), i) for i, p in there])
        into, out_of = (torch.cat(x, dim) for x, dim in (([p.a_RK for _, p in there], 0), ([p.b_NR for _, p in there], 1)))
        stretch_AN = None
        if any(p.stretch_N is not None for _, p in there):
            stretch_AN = out_of.new_zeros(len(parts) + 1, out_of.shape[0])
            for i, part in there:
                if part.stretch_N is not None:
                    stretch_AN[i] = part.stretch_N
        return cls(multiply_by(into), multiply_by(out_of), owner_R, ranks, stretch_AN)


class Rows:
    """What the rows of the step that is being computed use: set before each forward pass, read by every product in it."""

    def __init__(self) -> None:
        self.stacks: Sequence[Stacked | None] = ()  # per product; empty: the base model alone
        self._owner_T = torch.zeros(0, dtype=torch.int64)
        self._masks: dict[tuple[int, ...], Tensor] = {}
        self._mixed = False

    def use(self, stacks: Sequence[Stacked | None], owner_T: Tensor) -> None:
        """`owner_T` is each row's adapter, by its place in the stacks, or -1."""
        self.stacks, self._owner_T = stacks, owner_T
        self._masks.clear()
        self._mixed = bool(stacks) and bool((owner_T != 0).any() or any(s and len(s.ranks) > 1 for s in stacks))

    def mask(self, stack: Stacked, dtype: torch.dtype) -> Tensor | None:
        """(T, R), 1 where the column is of the row's own adapter; None where that is everywhere."""
        if not self._mixed:
            return None
        if stack.ranks not in self._masks:
            self._masks[stack.ranks] = (self._owner_T[:, None] == stack.owner_R).to(dtype)
        return self._masks[stack.ranks]

    def stretch(self, stretch_AN: Tensor) -> Tensor:
        """(T, N), each row its own adapter's."""
        return stretch_AN[self._owner_T]  # -1, the base model, is the last one


class LiveProduct:
    """One base product, and what the rows' adapters add to it."""

    def __init__(self, product: Product, number: int, rows: Rows) -> None:
        weight_NK = product.frozen.extended()[:, : product.n_in]
        self.n_out, self.n_in = weight_NK.shape
        self._bias_N = product.bias_N
        self._multiply = multiply_by(weight_NK)
        self._dtype = weight_NK.dtype
        self._number, self._rows = number, rows

    def __call__(self, x_TK: Tensor) -> Tensor:
        """(T, K) in the products' type → (T, N)."""
        y_TN = self._multiply(x_TK)
        stacks = self._rows.stacks
        if stacks and (stack := stacks[self._number]) is not None:
            low_TR = stack.into_low(x_TK)
            mask = self._rows.mask(stack, low_TR.dtype)
            if mask is not None:
                low_TR.mul_(mask)
            y_TN += stack.out_of_low(low_TR)
            if stack.stretch_AN is not None:
                y_TN.addcmul_(y_TN, self._rows.stretch(stack.stretch_AN))
        return y_TN if self._bias_N is None else y_TN.add_(self._bias_N)

    def row_norms(self, b_NR: Tensor, a_RK: Tensor) -> Tensor:
        """Lengths (N,) of the rows of W + B·A in float32, for DoRA. W is read out of its layout, a few columns at a time."""
        def columns(start: int, end: int) -> Tensor:
            return self._multiply(torch.eye(self.n_in, dtype=self._dtype)[start:end]).t()

        return squared_rows(columns, b_NR, a_RK).sqrt()


class LiveLinear(nn.Module):
    """A LiveProduct in the place of a linear layer, for models that keep transformers' own forward pass."""

    def __init__(self, product: LiveProduct, dtype: torch.dtype) -> None:
        super().__init__()
        self._product, self._dtype = product, dtype

    @override
    def forward(self, x: Tensor) -> Tensor:
        """(…, K) → (…, N)."""
        y_TN = self._product(x.flatten(0, -2).to(self._dtype))
        return y_TN.view(*x.shape[:-1], -1)


def squared_rows(columns: Callable[[int, int], Tensor], b_NR: Tensor, a_RK: Tensor) -> Tensor:
    """Squared lengths (N,) of the rows of W + B·A; `columns` reads some columns of W, which is never whole in float32."""
    squares_N = torch.zeros(b_NR.shape[0])
    for start in range(0, a_RK.shape[1], COLUMNS):
        end = min(a_RK.shape[1], start + COLUMNS)
        squares_N += columns(start, end).float().addmm_(b_NR, a_RK[:, start:end]).square().sum(1)
    return squares_N


def multiply_by(weight_NK: Tensor) -> Multiply:
    """x (T, K) → x · Wᵀ. In bfloat16 the weight is laid out for oneDNN once, where this torch and processor can do so.

    For few rows that is worth a third to a half of the time (docs/log.md): otherwise each call lays it out anew.
    """
    weight_NK = weight_NK.contiguous()
    if weight_NK.dtype == torch.bfloat16 and _packs():
        return _packed(weight_NK)
    return lambda x_TK: F.linear(x_TK, weight_NK)


def _packed(weight_NK: Tensor) -> Multiply:
    """Through the operators that torch's own compiler uses for this."""
    reordered = torch.ops.mkldnn._reorder_linear_weight(weight_NK, ROWS)
    product = torch.ops.mkldnn._linear_pointwise
    return lambda x_TK: product(x_TK, reordered, None, "none", [], "")


@cache
def _packs() -> bool:
    """Whether those operators are there and compute the same, found by trying."""
    weight_NK, x_TK = (torch.linspace(-1, 1, n * 64).view(n, 64).to(torch.bfloat16) for n in (96, 5))
    try:
        return torch.allclose(_packed(weight_NK)(x_TK), F.linear(x_TK, weight_NK), rtol=0.02, atol=0.02)
    except (AttributeError, RuntimeError):
        return False

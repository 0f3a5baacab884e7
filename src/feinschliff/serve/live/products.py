"""Matrix products for rows that use different adapters: the base product once for all, the low-rank ones beside it.

The adapters of the conversations in work are stacked, so that however many there are, a product costs two more: every row is
multiplied by all stacked A, what does not belong to its own adapter is set to zero, and the rest is multiplied by the stacked
B (as Punica and S-LoRA do on a GPU; on a processor reading the weights is what costs, and each is read once).
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from feinschliff.nn.linear import Product

Multiply = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class LowRank:
    """One adapter's part in one product: x · Aᵀ · B, the adapter's scale in B."""

    a_RK: Tensor
    b_RN: Tensor


@dataclass(frozen=True, slots=True)
class Stacked:
    """The parts of several adapters in one product. `owner_R` says which of them a column belongs to."""

    a_RK: Tensor
    b_RN: Tensor
    owner_R: Tensor
    ranks: tuple[int, ...]

    @classmethod
    def of(cls, parts: Sequence[LowRank | None]) -> "Stacked | None":
        there = [(i, p) for i, p in enumerate(parts) if p is not None]
        if not there:
            return None
        ranks = tuple(0 if p is None else p.a_RK.shape[0] for p in parts)
        owner_R = torch.cat([torch.full((p.a_RK.shape[0],), i) for i, p in there])
        return cls(torch.cat([p.a_RK for _, p in there]), torch.cat([p.b_RN for _, p in there]), owner_R, ranks)


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


class LiveProduct:
    """One base product, and what the rows' adapters add to it."""

    def __init__(self, product: Product, number: int, rows: Rows) -> None:
        self._multiply = multiply_by(product.extended_NE[:, : product.n_in], product.bias_N)
        self._number, self._rows = number, rows

    def __call__(self, x_TK: Tensor) -> Tensor:
        """(T, K) in the products' type → (T, N)."""
        y_TN = self._multiply(x_TK)
        stacks = self._rows.stacks
        stack = stacks[self._number] if stacks else None
        if stack is None:
            return y_TN
        low_TR = F.linear(x_TK, stack.a_RK)
        mask = self._rows.mask(stack, low_TR.dtype)
        if mask is not None:
            low_TR.mul_(mask)
        return torch.addmm(y_TN, low_TR, stack.b_RN)


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


def multiply_by(weight_NK: Tensor, bias_N: Tensor | None = None) -> Multiply:
    """x (T, K) → x · Wᵀ + b. In bfloat16 the weight is laid out for oneDNN once, where this torch and processor can do so.

    For few rows that is worth a third to a half of the time (docs/log.md): otherwise each call lays it out anew.
    """
    weight_NK = weight_NK.contiguous()
    if weight_NK.dtype == torch.bfloat16:
        packed = _packed(weight_NK, bias_N)
        if packed is not None:
            return packed
    return lambda x_TK: F.linear(x_TK, weight_NK, bias_N)


def _packed(weight_NK: Tensor, bias_N: Tensor | None) -> Multiply | None:
    """None where the operators (those that torch's own compiler uses) are missing or compute something else here."""
    try:
        reordered = torch.ops.mkldnn._reorder_linear_weight(weight_NK, 16)
        product = torch.ops.mkldnn._linear_pointwise
        probe = torch.linspace(-1, 1, 3 * weight_NK.shape[1]).view(3, -1).to(weight_NK.dtype)
        same = torch.allclose(
            product(probe, reordered, bias_N, "none", [], ""), F.linear(probe, weight_NK, bias_N), rtol=0.02, atol=0.02
        )
    except (AttributeError, RuntimeError):
        return None
    return (lambda x_TK: product(x_TK, reordered, bias_N, "none", [], "")) if same else None

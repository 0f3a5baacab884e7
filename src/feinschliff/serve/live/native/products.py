"""Products through the kernels: weights laid out for them, adapters beside them."""
import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from feinschliff.nn.linear import Product
from feinschliff.serve.live.native.kernels import LOW, CAdapter, CMembers, COperands, CWeights, Kernels
from feinschliff.serve.live.products import LowRank, Multiply, squared_rows

BLOCK = 32  # outputs; as in product.c


class Weights:
    """A matrix in the kernels' layout: blocks of 32 outputs, in each for every pair of inputs the 32 pairs of weights."""

    def __init__(self, weight_NK: Tensor) -> None:
        self.n_out, n_in = weight_NK.shape
        n_pairs, n_blocks = -(-n_in // 2), -(-self.n_out // BLOCK)
        padded = weight_NK.new_zeros(n_blocks * BLOCK, 2 * n_pairs)
        padded[: self.n_out, :n_in] = weight_NK
        self._data = padded.view(n_blocks, BLOCK, n_pairs, 2).permute(0, 2, 1, 3).contiguous()
        used_BP = self._data.flatten(2).any(2)
        first_B, last_B = used_BP.byte().argmax(1), n_pairs - used_BP.flip(1).byte().argmax(1)
        last_B[~used_BP.any(1)] = 0
        self._ranges = torch.stack([first_B, last_B], 1).to(torch.int32)
        self.struct = CWeights(self._data.data_ptr(), self._ranges.data_ptr(), self.n_out, 2 * n_pairs)
        self.address = ctypes.addressof(self.struct)

    def columns(self, start: int, end: int) -> Tensor:
        """(N, end - start) of the matrix; both even."""
        return self._data[:, start // 2 : end // 2].permute(0, 2, 1, 3).flatten(2).flatten(0, 1)[: self.n_out]


class NativeProduct:
    """One base product. `number` is its place among the model's."""

    def __init__(self, product: Product, number: int) -> None:
        self.weights = Weights(product.frozen.extended()[:, : product.n_in].to(torch.bfloat16))
        self.n_out, self.n_in, self.number = self.weights.n_out, product.n_in, number
        self.bias_N = product.bias_N

    def row_norms(self, b_NR: Tensor, a_RK: Tensor) -> Tensor:
        """Lengths (N,) of the rows of W + B·A in float32, for DoRA."""
        return squared_rows(self.weights.columns, b_NR, a_RK).sqrt()


@dataclass(frozen=True, slots=True)
class Beside:
    """What several adapters add to one product; `kept` is what `array` points to."""

    array: ctypes.Array[CAdapter]
    kept: tuple[tuple[Weights, Weights] | None, ...]
    low_width: int
    stretch_AN: Tensor | None

    @classmethod
    def of(cls, parts: Sequence[LowRank | None]) -> "Beside | None":
        if not any(parts):
            return None
        kept = tuple(None if p is None else _packed(p) for p in parts)
        array = (CAdapter * len(parts))(*((k[0].address, k[1].address) if k else (None, None) for k in kept))
        width = max(-(-k[0].n_out // LOW) * LOW for k in kept if k)
        stretched = [p.stretch_N for p in parts if p is not None and p.stretch_N is not None]
        stretch_AN = None
        if stretched:
            stretch_AN = torch.zeros(len(parts) + 1, stretched[0].shape[0])
            for i, part in enumerate(parts):
                if part is not None and part.stretch_N is not None:
                    stretch_AN[i] = part.stretch_N
        return cls(array, kept, width, stretch_AN)


def _packed(part: LowRank) -> tuple[Weights, Weights]:
    """Laid out once per adapter, however often it is put beside others."""
    packed = part.packed.get("native")
    if packed is None:
        packed = part.packed["native"] = (Weights(part.a_RK), Weights(part.b_NR))
    assert isinstance(packed, tuple)
    return packed


class NativeRows:
    """Whose rows the ones of a step are, as products.Rows; and the products of that step."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels
        self._stacks: Sequence[Beside | None] = ()
        self._owner_T = torch.zeros(0, dtype=torch.int64)
        self._members: ctypes.Array[CMembers] | None = None
        self._n_adapters, self._low_width = 0, 0
        self._kept: list[Tensor] = []

    def use(self, stacks: Sequence[Beside | None], owner_T: Tensor) -> None:
        """`owner_T` is each row's adapter, by its place in the stacks, or -1."""
        self._stacks, self._owner_T = stacks, owner_T
        there = [s for s in stacks if s is not None]
        self._n_adapters = len(there[0].kept) if there else 0
        self._low_width = max((s.low_width for s in there), default=0)
        self._kept = [(owner_T == a).nonzero().flatten().to(torch.int32) for a in range(self._n_adapters)]
        self._members = (CMembers * self._n_adapters)(*((k.data_ptr(), len(k)) for k in self._kept)) if there else None

    def low(self, n_rows: int) -> Tensor:
        """Room for a product's low-rank rows."""
        return torch.empty(n_rows, self._low_width, dtype=torch.bfloat16)

    def multiply(self, product: NativeProduct, x_TK: Tensor, low_TR: Tensor, y_TN: Tensor, *, add: bool = False) -> None:
        """y = x · Wᵀ and what the rows' adapters add; with `add` it is added to y. All are contiguous."""
        beside = self._stacks[product.number] if self._stacks else None
        if beside is None or beside.stretch_AN is None:
            self._call(product, beside, x_TK, low_TR, y_TN, add=add)
            if product.bias_N is not None:
                y_TN += product.bias_N
            return
        own_TN = torch.empty(x_TK.shape[0], product.n_out)
        self._call(product, beside, x_TK, low_TR, own_TN, add=False)
        own_TN.addcmul_(own_TN, beside.stretch_AN[self._owner_T])  # -1, the base model, is the last one
        if product.bias_N is not None:
            own_TN += product.bias_N
        if add:
            y_TN += own_TN
        else:
            y_TN.copy_(own_TN)

    def _call(
        self, product: NativeProduct, beside: Beside | None, x_TK: Tensor, low_TR: Tensor, y_TN: Tensor, *, add: bool
    ) -> None:
        T = x_TK.shape[0]
        o = COperands(x_TK.data_ptr(), x_TK.shape[1], y_TN.data_ptr(), y_TN.shape[1], low_TR.data_ptr(), low_TR.shape[1], T)
        array = None if beside is None else beside.array
        n = 0 if beside is None else self._n_adapters
        self._kernels.product(ctypes.byref(o), product.weights.address, array, self._members, n, add)


def head_of(kernels: Kernels, weight_VD: Tensor) -> Multiply:
    """Hidden states (R, D) in bfloat16 → logits (R, V) in float32."""
    weights = Weights(weight_VD)

    def multiply(x_RD: Tensor) -> Tensor:
        x_RD, y_RV = x_RD.contiguous(), torch.empty(x_RD.shape[0], weights.n_out)
        o = COperands(x_RD.data_ptr(), x_RD.shape[1], y_RV.data_ptr(), weights.n_out, None, 0, x_RD.shape[0])
        kernels.product(ctypes.byref(o), weights.address, None, None, 0, 0)
        return y_RV

    return multiply

"""Linear layers whose frozen weights and low-rank adapters are one matrix product.

[x, x·Aᵀ] · [W | s·B]ᵀ = W·x + s·B·A·x. Base and adapter are summed before rounding to bfloat16, which keeps training
in bf16 within 0.3 % of fp32 (adding a separately rounded adapter output costs about one step of progress).

Layers that read the same input (query, key and value; gate and up) are stacked into one such product.

DoRA (Liu et al. 2024, arXiv 2402.09353) gives every output a trained magnitude m beside the direction that W + s·B·A has:
its row of the product is multiplied by m / |W + s·B·A|, a norm that counts as a constant in the backward pass (section 4.3).
"""
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from feinschliff.nn.frozen import Dense, Frozen, Quantised
from feinschliff.nn.multiply import Multiply, blas
from feinschliff.nn.nf4 import Nf4
from feinschliff.nn.precision import exact_dtype

Grads = list[Tensor]  # of A₁, B₁, A₂, B₂ …, in the order of Product.parameters()
NORM_ROWS = 256  # of a weight in the exact type at once, so that they stay in the cache


class Product:
    """One matrix product for `members`: E = K + R wide, [W₁ | s·B₁ 0 …; W₂ | 0 s·B₂ …].

    K is the input width, N the stacked output width, R the sum of the adapters' ranks.
    """

    def __init__(
        self, members: Sequence["Projection"], frozen: Frozen, bias_N: Tensor | None, multiply: Multiply = blas
    ) -> None:
        self.members = tuple(members)
        self.frozen = frozen
        self._multiply = multiply
        self.n_in = frozen.n_in
        self.bias_N = bias_N
        self.low_RK: Tensor | None = None  # the stacked A, in the products' type
        # DoRA: what an output is multiplied by, less one, so that the products' type holds enough of it.
        self.stretch_N: Tensor | None = None
        ends = torch.tensor([m.out_features for m in members]).cumsum(0).tolist()
        self.rows = [slice(end - m.out_features, end) for m, end in zip(members, ends, strict=True)]

    @classmethod
    def join(cls, members: Sequence["Projection"]) -> "Product":
        """Stack members that were alone until now; from here on they share this product's storage."""
        alone = [m.product for m in members]
        frozen = type(alone[0].frozen).join([p.frozen for p in alone])
        bias = None
        if any(p.bias_N is not None for p in alone):
            widths = [m.out_features for m in members]
            zeros = frozen.beside_NR.new_zeros(sum(widths)).split(widths)
            bias = torch.cat([z if p.bias_N is None else p.bias_N for p, z in zip(alone, zeros, strict=True)])
        joined = cls(members, frozen, bias, alone[0]._multiply)
        for member in members:
            member.product = joined
        joined.rebuild()
        return joined

    def weight(self, member: "Projection") -> Tensor:
        """(out, in), a member's base weight alone."""
        return self.frozen.weight(self.rows[self.members.index(member)])

    def rebuild(self) -> None:
        """After adapters came, went or changed their rank."""
        ranks = [m.lora_A.shape[0] for m in self.members if m.lora_A is not None]
        self.frozen.make_room(sum(ranks))
        if not ranks:
            self.low_RK = self.stretch_N = None
            return
        beside_NR = self.frozen.beside_NR
        if self.low_RK is None or self.low_RK.shape[0] != sum(ranks):
            self.low_RK = beside_NR.new_empty(sum(ranks), self.n_in)
        stretched = any(m.lora_magnitude_vector is not None for m in self.members)
        self.stretch_N = beside_NR.new_zeros(len(beside_NR)) if stretched else None
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """After an optimizer step: bring A and s·B, in the products' type, to their places, and the rows to their lengths."""
        for member, rows, columns in self._adapted():
            assert self.low_RK is not None
            assert member.lora_A is not None
            assert member.lora_B is not None
            self.low_RK[columns] = member.lora_A.to(self.low_RK.dtype)
            self.frozen.beside_NR[rows, columns] = member.lora_B * member.scale
            if member.lora_magnitude_vector is not None:
                assert self.stretch_N is not None
                norms = _row_norms(member.weight, member.lora_B * member.scale, member.lora_A)
                # A row of zeros has no direction, and so stays one.
                self.stretch_N[rows] = torch.where(norms > 0, member.lora_magnitude_vector / norms, 0.0) - 1.0

    def parameters(self) -> list[Tensor]:
        """A₁, B₁ (and DoRA's m₁), A₂, B₂ … of the members that have adapters."""
        return [p for m, _, _ in self._adapted() for p in (m.lora_A, m.lora_B, m.lora_magnitude_vector) if p is not None]

    def room(self, n_rows: int) -> Tensor:
        """An empty (T, E): whoever makes the input may write it into the first K columns and save a copy."""
        beside_NR = self.frozen.beside_NR
        return beside_NR.new_empty(n_rows, self.n_in + beside_NR.shape[1])

    def widen(self, x_TK: Tensor) -> Tensor:
        """[x, x·Aᵀ], or x itself where there is no adapter."""
        if self.low_RK is None:
            return x_TK.to(self.frozen.beside_NR.dtype)
        both_TE = self.room(x_TK.shape[0])
        both_TE[:, : self.n_in] = x_TK
        return self.fill(both_TE)

    def fill(self, both_TE: Tensor) -> Tensor:
        """Complete `room` once the input stands in it."""
        if self.low_RK is not None:
            both_TE[:, self.n_in :] = F.linear(both_TE[:, : self.n_in], self.low_RK)
        return both_TE

    def __call__(self, both_TE: Tensor) -> tuple[Tensor, Tensor | None]:
        """(T, E) → (T, N), and with DoRA the same without the bias, for the backward pass."""
        if self.stretch_N is None:
            return self._multiply(both_TE, self.frozen.extended(), self.bias_N), None
        plain_TN = self._multiply(both_TE, self.frozen.extended(), None)
        y_TN = plain_TN.addcmul_(plain_TN, self.stretch_N)
        return (y_TN if self.bias_N is None else y_TN + self.bias_N), y_TN

    def backward(
        self, dy_TN: Tensor, both_TE: Tensor, y_TN: Tensor | None, *, need_dx: bool = True
    ) -> tuple[Tensor | None, Grads]:
        """Gradients of the input (T, K) and of `parameters()`; the frozen weight gets none. `y_TN`: what the call kept."""
        back = self.back(dy_TN, y_TN, need_dx=need_dx)
        return back.dx_TK, self.grads(back, both_TE[:, : self.n_in], both_TE[:, self.n_in :])

    def back(self, dy_TN: Tensor, y_TN: Tensor | None, *, need_dx: bool = True) -> "Back":
        """The first half of `backward`, which does not read the input."""
        if self.low_RK is None:
            return Back(self._back(dy_TN) if need_dx else None, None, dy_TN, None)
        K = self.n_in
        dm_N = None
        if self.stretch_N is not None:
            assert y_TN is not None
            dm_N = (dy_TN * y_TN).sum(0, dtype=self.members[0].master)  # times m: y = m · (W + s·B·A) x / |W + s·B·A|
            dy_TN = torch.addcmul(dy_TN, dy_TN, self.stretch_N)
        d_both = self._back(dy_TN) if need_dx else None  # the products with W and with s·B in one
        d_low = (dy_TN @ self.frozen.beside_NR if d_both is None else d_both[:, K:]).contiguous()
        dx = None if d_both is None else d_both[:, :K].addmm_(d_low, self.low_RK)
        return Back(dx, d_low, dy_TN, dm_N)

    def grads(self, back: "Back", x_TK: Tensor, low_TR: Tensor) -> Grads:
        """The second: gradients of `parameters()`, from the input and x·Aᵀ."""
        if back.d_low_TR is None:
            return []
        da_RK = back.d_low_TR.t() @ x_TK
        grads: Grads = []
        for member, rows, columns in self._adapted():
            db = (low_TR[:, columns].t() @ back.dy_TN[:, rows]).t()  # this way round a third faster
            grads += [da_RK[columns].to(member.master), db.to(member.master).mul_(member.scale)]
            if member.lora_magnitude_vector is not None:
                assert back.dm_N is not None
                m = member.lora_magnitude_vector
                grads.append(torch.where(m != 0, back.dm_N[rows] / m, 0.0))
        return grads

    def _back(self, dy_TN: Tensor) -> Tensor:
        """(T, N) → (T, E)."""
        return self._multiply(dy_TN, self.frozen.extended().t(), None)

    def _adapted(self) -> list[tuple["Projection", slice, slice]]:
        """Members with an adapter, their rows of W, and their columns of the stacked A and B."""
        found: list[tuple[Projection, slice, slice]] = []
        start = 0
        for member, rows in zip(self.members, self.rows, strict=True):
            if member.lora_A is not None:
                rank = member.lora_A.shape[0]
                found.append((member, rows, slice(start, start + rank)))
                start += rank
        return found


class Back(NamedTuple):
    """Gradients of a product's input, of x·Aᵀ, of what W and s·B gave, and DoRA's m · (gradient of m)."""

    dx_TK: Tensor | None
    d_low_TR: Tensor | None  # None where there is no adapter
    dy_TN: Tensor
    dm_N: Tensor | None


class Projection(nn.Module):
    """`nn.Linear` in `dtype`, frozen, with an optional trainable adapter in float32.

    Inputs of any float type are cast to `dtype`; outputs have `dtype`. `quantised`: the weight is held in 4 bits.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, multiply: Multiply = blas, *, quantised: bool = False
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.master = exact_dtype(dtype)
        self.out_features, self.in_features = weight.shape
        self.lora_A: nn.Parameter | None = None
        self.lora_B: nn.Parameter | None = None
        self.lora_magnitude_vector: nn.Parameter | None = None
        self.scale = 1.0
        bias = None if bias is None else bias.detach().to(dtype)
        frozen = Quantised([Nf4.of(weight)], dtype) if quantised else Dense(weight.detach().to(dtype))
        self.product = Product([self], frozen, bias, multiply)

    @property
    def device(self) -> torch.device:
        """Where the product is made, and the adapter lives."""
        return self.product.frozen.beside_NR.device

    @property
    def weight(self) -> Tensor:
        """(out, in), the base weight alone."""
        return self.product.weight(self)

    @property
    def bias(self) -> Tensor | None:
        product = self.product
        return None if product.bias_N is None else product.bias_N[product.rows[product.members.index(self)]]

    def add_adapter(self, rank: int, scale: float, generator: torch.Generator, *, dora: bool = False) -> None:
        """Kaiming-uniform A and zero B, as PEFT does: the first forward pass is the base model's. DoRA: and m = |W|."""
        a = torch.empty(rank, self.in_features, device=generator.device)
        nn.init.kaiming_uniform_(a, a=5**0.5, generator=generator)
        a = a.to(self.device)  # drawn on the CPU, it is the same on every device
        b = torch.zeros(self.out_features, rank, device=self.device)
        magnitude = _row_norms(self.weight, b.to(self.master), a.to(self.master)) if dora else None
        self.set_adapter(a, b, scale, magnitude)

    def set_adapter(self, a: Tensor, b: Tensor, scale: float, magnitude: Tensor | None = None) -> None:
        """Put the adapter (rank, in), (out, rank), and with DoRA (out,), in, replacing any other."""
        self.lora_A, self.lora_B = (nn.Parameter(x.to(self.device, self.master)) for x in (a, b))
        self.lora_magnitude_vector = None if magnitude is None else nn.Parameter(magnitude.to(self.device, self.master))
        self.scale = scale
        self.product.rebuild()

    def drop_adapter(self) -> None:
        """Back to the base weight."""
        self.lora_A = self.lora_B = self.lora_magnitude_vector = None
        self.product.rebuild()

    @override
    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out); only for a projection that is alone in its product."""
        assert len(self.product.members) == 1
        flat = x.flatten(0, -2)
        y: Tensor = _Multiply.apply(flat, self.product, *self.product.parameters())
        return y.view(*x.shape[:-1], -1)


def _row_norms(weight_NK: Tensor, b_NR: Tensor, a_RK: Tensor) -> Tensor:
    """Lengths (N,) of the rows of W + B·A, in the type of A."""
    parts = zip(weight_NK.split(NORM_ROWS), b_NR.split(NORM_ROWS), strict=True)
    return torch.cat([torch.linalg.vector_norm(torch.addmm(w.to(a_RK.dtype), b, a_RK), dim=1) for w, b in parts])


class _Multiply(torch.autograd.Function):
    """One product as a layer of its own."""

    @staticmethod
    @override
    def forward(ctx: Any, x_TK: Tensor, product: Product, *_: Tensor) -> Tensor:  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        both_TE = product.widen(x_TK)
        y_TN, kept = product(both_TE)
        ctx.save_for_backward(both_TE, kept)
        ctx.product = product
        return y_TN

    @staticmethod
    @override
    def backward(ctx: Any, dy_TN: Tensor) -> tuple[Tensor | None, ...]:  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        dx, grads = ctx.product.backward(dy_TN, *ctx.saved_tensors, need_dx=ctx.needs_input_grad[0])
        return dx, None, *grads


class CastLinear(nn.Module):
    """`nn.Linear` that is trained as a whole: float32 master weight, products in `dtype`."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.weight = nn.Parameter(weight.detach().to(exact_dtype(dtype)))
        self.bias = None if bias is None else nn.Parameter(bias.detach().to(self.weight.dtype))

    @override
    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(self.dtype)
        return F.linear(x.to(self.dtype), self.weight.to(self.dtype), bias)

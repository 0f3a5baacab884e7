"""A linear layer whose frozen weight and low-rank adapter are one matrix product.

[x, x·Aᵀ] · [W | s·B]ᵀ = W·x + s·B·A·x. Base and adapter are summed before rounding to bfloat16, which keeps training
in bf16 within 0.3 % of fp32 (adding a separately rounded adapter output costs about one step of progress).
"""
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override


class Projection(nn.Module):
    """`nn.Linear` in `dtype`, frozen, with an optional trainable adapter in float32.

    Inputs of any float type are cast to `dtype`; outputs have `dtype`.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.out_features, self.in_features = weight.shape
        self._extended = weight.detach().to(dtype)  # [W | s·B] once there is an adapter
        self._bias = None if bias is None else bias.detach().to(dtype)
        self.lora_A: nn.Parameter | None = None
        self.lora_B: nn.Parameter | None = None
        self.scale = 1.0

    @property
    def weight(self) -> Tensor:
        """(out, in), the base weight alone."""
        return self._extended[:, : self.in_features]

    def add_adapter(self, rank: int, scale: float, generator: torch.Generator) -> None:
        """Kaiming-uniform A and zero B, as PEFT does: the first forward pass is the base model's."""
        a = torch.empty(rank, self.in_features)
        nn.init.kaiming_uniform_(a, a=5**0.5, generator=generator)
        self.set_adapter(a, torch.zeros(self.out_features, rank), scale)

    def set_adapter(self, a: Tensor, b: Tensor, scale: float) -> None:
        """Put the adapter (rank, in), (out, rank) in, replacing any other."""
        master = torch.float64 if self.dtype == torch.float64 else torch.float32
        self.lora_A = nn.Parameter(a.to(master))
        self.lora_B = nn.Parameter(b.to(master))
        self.scale = scale
        self._extended = torch.cat([self.weight, (b * scale).to(self.dtype)], 1)

    def drop_adapter(self) -> None:
        """Back to the base weight."""
        self.lora_A = self.lora_B = None
        self._extended = self.weight.contiguous()

    @torch.no_grad()
    def refresh(self) -> None:
        """After an optimizer step: bring s·B into the extended matrix."""
        if self.lora_B is not None:
            self._extended[:, self.in_features :] = (self.lora_B * self.scale).to(self.dtype)

    @override
    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        if self.lora_A is None or self.lora_B is None:
            return F.linear(x, self._extended, self._bias)
        y: Tensor = _Adapted.apply(x, self._extended, self._bias, self.lora_A, self.lora_B, self.scale)
        return y


class _Adapted(torch.autograd.Function):
    """y = [x, x·Aᵀ]·Wextᵀ + bias; gradients for x, A and B only."""

    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, extended: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        flat = x.flatten(0, -2)
        a_low = a.to(x.dtype)
        both = torch.cat([flat, F.linear(flat, a_low)], 1)
        ctx.save_for_backward(both, extended, a_low)
        ctx.scale = scale
        return F.linear(both, extended, bias).view(*x.shape[:-1], -1)

    @staticmethod
    @override
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        both, extended, a_low = ctx.saved_tensors
        n_in = a_low.shape[1]
        flat = dy.flatten(0, -2)
        d_both = flat @ extended  # the products with W and with s·B in one
        d_low = d_both[:, n_in:].contiguous()
        da = d_low.t() @ both[:, :n_in]
        db = (flat.t() @ both[:, n_in:]).mul_(ctx.scale)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = torch.addmm(d_both[:, :n_in], d_low, a_low).view(*dy.shape[:-1], n_in)
        master = torch.float64 if dy.dtype == torch.float64 else torch.float32
        return dx, None, None, da.to(master), db.to(master), None


class CastLinear(nn.Module):
    """`nn.Linear` that is trained as a whole: float32 master weight, products in `dtype`."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.weight = nn.Parameter(weight.detach().float() if dtype != torch.float64 else weight.detach().double())
        self.bias = None if bias is None else nn.Parameter(bias.detach().to(self.weight.dtype))

    @override
    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(self.dtype)
        return F.linear(x.to(self.dtype), self.weight.to(self.dtype), bias)

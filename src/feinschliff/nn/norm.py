"""RMSNorm (Zhang & Sennrich 2019) from a float32 residual into the products' type, with a hand-written backward.

It saves the input and one number per token instead of five intermediate tensors, and casts once for all
projections that read it.
"""
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from feinschliff.nn.native import rows
from feinschliff.nn.native.kernels import Kernels
from feinschliff.nn.precision import exact_dtype


class RmsNorm(nn.Module):
    """y = x / rms(x) · weight, computed in float32, returned in `dtype`."""

    def __init__(self, weight: Tensor, eps: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().to(exact_dtype(dtype)))
        self.weight: Tensor
        self.eps = eps
        self.dtype = dtype

    @override
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _RmsNorm.apply(x, self.weight, self.eps, self.dtype)
        return y


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        y = torch.empty_like(x, dtype=dtype)
        rstd = normalise_into(x, weight, eps, y)
        ctx.save_for_backward(x, weight, rstd)
        return y

    @staticmethod
    @override
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None, None]:  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        x, weight, rstd = ctx.saved_tensors
        return normalise_backward(dy, x, weight, rstd).to(x.dtype), None, None, None


def normalise_into(x: Tensor, weight: Tensor, eps: float, out: Tensor) -> Tensor:
    """x (…, D) in any type → x / rms(x) · weight into `out`; returns 1 / rms(x) (…, 1)."""
    kernels = _kernels(x, out.dtype)
    if kernels is not None and out.stride(-1) == 1:
        flat = x.flatten(0, -2)
        return rows.normalise_into(kernels, flat, weight, eps, out.flatten(0, -2)).view(*x.shape[:-1], 1)
    y, rstd = normalise(x, weight, eps)
    out.copy_(y)
    return rstd


def normalise(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x (…, D) in any type → x / rms(x) · weight in the weight's type, and 1 / rms(x) (…, 1) for the backward pass."""
    wide = x.to(weight.dtype)
    rstd = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return (wide * rstd).mul_(weight), rstd


def normalise_backward(dy: Tensor, x: Tensor, weight: Tensor, rstd: Tensor, past: Tensor | None = None) -> Tensor:
    """Gradient of x, in the weight's type, plus `past`: the gradient that came past the norm."""
    kernels = _kernels(x, dy.dtype)
    if kernels is not None and dy.stride(-1) == 1:
        beside = None if past is None else past.flatten(0, -2)
        dx = rows.normalise_backward(kernels, dy.flatten(0, -2), x.flatten(0, -2), weight, rstd, beside)
        return dx.view(x.shape)
    g = dy.to(weight.dtype) * weight
    wide = x.to(weight.dtype)
    dot = (g * wide).mean(-1, keepdim=True)
    dx = g.sub_(wide * (dot * rstd.square())).mul_(rstd)
    return dx if past is None else dx.add_(past)


def _kernels(x: Tensor, dtype: torch.dtype) -> Kernels | None:
    return rows.row_kernels(dtype, x.device, x.shape[-1]) if x.dtype == torch.float32 else None


def like(module: nn.Module, dtype: torch.dtype) -> RmsNorm | None:
    """A replacement for a model's own RMSNorm, or None if the module is something else.

    Whether it is one, and whether its weight is stored as w or as w - 1 (Gemma), is found by trying, not by name.
    """
    weight = getattr(module, "weight", None)
    if not type(module).__name__.endswith("RMSNorm") or not isinstance(weight, Tensor):
        return None
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not isinstance(eps, float):
        return None
    probe = torch.randn(4, weight.shape[0], generator=torch.Generator().manual_seed(0)).to(weight.dtype)
    with torch.no_grad():
        wanted = module(probe).float()
        for effective in (weight, 1.0 + weight):
            mine = RmsNorm(effective, eps, dtype)
            if torch.allclose(mine(probe).float(), wanted, rtol=2e-2, atol=2e-2):
                return mine
    return None

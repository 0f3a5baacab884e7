"""The product of an input with a frozen weight, through whichever of torch's libraries is faster on this machine.

torch sends float32 products to BLAS (MKL in its x86 builds, which is slow on some AMD processors) and bfloat16 ones to oneDNN.
oneDNN multiplies float32 too, at full precision: torch has an operator for that, used by its own compiler on CPUs.
"""
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from feinschliff.core.jobs import Library

Multiply = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # x (T, K), weight (N, K), bias (N,) → (T, N)


def blas(x_TK: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """torch's own choice; for float32 that is BLAS."""
    return F.linear(x_TK, weight_NK, bias_N)


def onednn(x_TK: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """The same through oneDNN. The weight may be a transposed view, as backward passes have it. Outside of autograd only."""
    product: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise
    return product(x_TK, weight_NK, bias_N, "none", [], "")


def has_onednn() -> bool:
    """Whether this torch was built with oneDNN, and its operator takes what ours gives it."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        x, w = torch.ones(2, 3), torch.ones(3, 4)
        return torch.equal(onednn(x, w.t()), x @ w)
    except (AttributeError, RuntimeError):  # another version of torch, or of the operator
        return False


def through(library: Library, dtype: torch.dtype) -> Multiply:
    """How products of `dtype` are made where float32 ones go through `library`; as torch does where it is not there."""
    return onednn if library == "onednn" and dtype == torch.float32 and has_onednn() else blas

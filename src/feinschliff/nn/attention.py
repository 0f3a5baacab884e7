"""Attention over a prefix tree, exact, forward and backward: every token attends along its path, and to nothing else.

Models reach it through transformers' attention interface: `install()` registers one function that hands the
projected heads to whatever `attend` object the forward pass was called with; model code stays untouched.
"""
from typing import Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface

from feinschliff.nn.attention_products import attention
from feinschliff.nn.blocks import Plan
from feinschliff.nn.native.attention import Laid, attention_kernels
from feinschliff.nn.native.attention import attention as attention_by_kernels
from feinschliff.nn.tree import Packed

NAME = "feinschliff"


class Attend(Protocol):
    """How one forward pass attends. q (H, T, d); k, v (Hk, T, d); returns (T, H, d)."""

    def __call__(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None, softcap: float | None
    ) -> Tensor: ...


def _through_interface(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    *,
    attend: Attend,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    q, k = query[0].to(value.dtype), key[0].to(value.dtype)  # rotary embeddings may have promoted them to float32
    layer = module.layer_idx
    assert isinstance(layer, int)
    out = attend(layer, q, k, value[0], scale=scaling, window=sliding_window, softcap=softcap)
    return out[None], None


def install() -> None:
    """Make `attn_implementation="feinschliff"` known to transformers."""
    AttentionInterface.register(NAME, _through_interface)


class TreeAttend:
    """Attention for one packed tree (on the CPU; the heads may be elsewhere); used by every layer of a forward pass and its backward."""

    def __init__(self, packed: Packed) -> None:
        self.packed = packed
        self._plans: dict[tuple[int | None, int, int, torch.dtype, torch.device], Plan] = {}
        self._laid: dict[Plan, Laid] = {}

    def __call__(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None, softcap: float | None, before: int = 0
    ) -> Tensor:
        """The first `before` keys and values stand before the tree, on every path."""
        if window is not None and before + self.packed.longest_path <= window:
            window = None
        of = window, q.shape[0] // k.shape[0], before, v.dtype, v.device
        if of not in self._plans:  # two kinds of layers at most
            self._plans[of] = Plan(self.packed, *of)
        plan = self._plans[of]
        q, k, v = (x.transpose(0, 1) for x in (q, k, v))
        kernels = attention_kernels(q, k, v, softcap)
        if kernels is None:
            return attention(q, k, v, plan, scale=scale, softcap=softcap)
        if plan not in self._laid:
            self._laid[plan] = Laid(plan, k.shape[1])
        return attention_by_kernels(kernels, q, k, v, self._laid[plan], scale=scale)

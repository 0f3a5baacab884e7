"""Exact attention over a prefix tree by plain batched products, block by block of queries, forward and backward.

The CPU flash kernels reach about a third of the matrix-product rate, and a fifteenth of it for short nodes. Products reach
most of it, and lose little to bfloat16: what is to be subtracted from a product is subtracted inside it, before the result is
rounded. The log-sum-exp becomes further columns of the queries, met by -1 in the keys, so q·k·scale − lse comes out
near 0 wherever attention is strong; the same for dO·v − delta (Dao et al. 2022, arXiv 2205.14135, algorithm 4).

Queries, keys and values are laid out once a layer so that every block is a view of them. Saved are q, k, v and the output.
Soft cap: s → c · tanh(s / c) (Gemma 2, arXiv 2408.00118).
"""
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from typing_extensions import override

from feinschliff.nn.blocks import Mask, Plan, add_rows, head_slices, rows
from feinschliff.nn.precision import exact_dtype

PARTS = 3  # 3 · 8 significant bits


def attention(q: Tensor, k: Tensor, v: Tensor, plan: Plan, *, scale: float, softcap: float | None) -> Tensor:
    """q (T, H, d); k, v (before + T, Hk, d) → (T, H, d), differentiable in all three."""
    out: Tensor = _Attention.apply(q, k, v, plan, scale, softcap)
    return out


@dataclass(frozen=True, slots=True)
class Scores:
    """How products of queries and keys become attention weights. `inside` is in the queries already; inside · outside = scale.

    R counts a block's queries times those of a group; x is the heads' d and the columns of what is to be subtracted.
    """

    d: int
    scale: float
    softcap: float | None

    @property
    def outside(self) -> float:
        return self.scale / self.inside

    @property
    def inside(self) -> float:
        """A power of two changes no digit of q; any other scale stays outside the product."""
        return self.scale if self.softcap is None and math.frexp(self.scale)[0] == 0.5 else 1.0

    def attend(self, q_NRx: Tensor, k_NPx: Tensor, v_NPx: Tensor, mask: Mask) -> Tensor:
        """A block's output (N, R, d), unrounded. Leaves the log-sum-exps in q's columns, for `gradients`."""
        rough = self._raw(q_NRx, k_NPx)
        mask.hide(rough)
        top = rough.amax(-1).to(exact_dtype(q_NRx.dtype))
        if rough.dtype == top.dtype:
            p = rough.sub_(top[..., None]).mul_(self._factor).exp_()
        else:  # made again, less the largest: rounded scores are too rough for the exponential
            subtract(top, q_NRx, self.d)
            p = self._lessened(q_NRx, k_NPx, mask)
        total = p.sum(-1, dtype=top.dtype)
        subtract(top + total.log() / self._factor, q_NRx, self.d)
        return (p.to(q_NRx.dtype) @ v_NPx[..., : self.d]).to(total.dtype).div_(total[..., None])

    def gradients(self, d_NRx: Tensor, q_NRx: Tensor, k_NPx: Tensor, v_NPx: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
        """Those of the block's queries (N, R, d), keys (yet to be multiplied by `outside`) and values (N, P, d)."""
        p, slope = self._weights(q_NRx, k_NPx, mask)
        ds = (d_NRx @ v_NPx.transpose(1, 2)).mul_(p)
        if slope is not None:
            ds.mul_(slope)
        dq = (ds @ k_NPx[..., : self.d]).mul_(self.scale)
        return dq, ds.transpose(1, 2) @ q_NRx[..., : self.d], p.transpose(1, 2) @ d_NRx[..., : self.d]

    def _weights(self, q_NRx: Tensor, k_NPx: Tensor, mask: Mask) -> tuple[Tensor, Tensor | None]:
        """Weights (N, R, P) that sum to 1, and the slope of the cap where there is one."""
        if self.softcap is None:
            return self._lessened(q_NRx, k_NPx, mask), None
        scores = self._raw(q_NRx, k_NPx)
        slope = (scores / self.softcap).square_().neg_().add_(1)
        mask.hide(scores)
        lse = q_NRx[..., self.d :].sum(-1, dtype=scores.dtype, keepdim=True)
        return scores.sub_(lse).exp_().to(q_NRx.dtype), slope.to(q_NRx.dtype)

    @property
    def _factor(self) -> float:
        """What is still to be multiplied to the scores of `_raw`."""
        return 1.0 if self.softcap is not None else self.outside

    def _raw(self, q_NRx: Tensor, k_NPx: Tensor) -> Tensor:
        product = q_NRx[..., : self.d] @ k_NPx[..., : self.d].transpose(1, 2)
        if self.softcap is None:
            return product
        return product.to(exact_dtype(product.dtype)).mul_(self.scale / self.softcap).tanh_().mul_(self.softcap)

    def _lessened(self, q_NRx: Tensor, k_NPx: Tensor, mask: Mask) -> Tensor:
        p = q_NRx @ k_NPx.transpose(1, 2)
        if self.outside != 1:
            p.mul_(self.outside)
        mask.hide(p)
        return p.exp_()


class _Attention(torch.autograd.Function):
    @staticmethod
    @override
    def forward(  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, plan: Plan, scale: float, softcap: float | None
    ) -> Tensor:
        (T, H, d), Hk = q.shape, k.shape[1]
        how = Scores(d, scale, softcap)
        q_KTGx, k_KPx, v_KPx = lay(q, Hk, how.inside), _keys(k), _keys(v)
        out_TKGd = q.new_empty(T, Hk, H // Hk, d)
        for block in plan.blocks:
            own, mask = slice(block.start, block.end), plan.mask(block)
            for heads in head_slices(block, Hk, H // Hk):
                k_NPx, v_NPx = (rows(x[heads], block.keys, 1) for x in (k_KPx, v_KPx))
                o = how.attend(q_KTGx[heads, own].flatten(1, 2), k_NPx, v_NPx, mask)
                out_TKGd[own, heads] = o.unflatten(1, (-1, H // Hk)).transpose(0, 1)
        ctx.save_for_backward(q_KTGx, k_KPx, v_KPx, out_TKGd)
        ctx.plan, ctx.how = plan, how  # pyrefly: ignore[missing-attribute] – torch's own convention
        return out_TKGd.flatten(1, 2)

    @staticmethod
    @override
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        q_KTGx, k_KPx, v_KPx, out_TKGd = ctx.saved_tensors
        plan: Plan = ctx.plan
        how: Scores = ctx.how
        Hk, T, G, _ = q_KTGx.shape
        d, wide = how.d, exact_dtype(d_out.dtype)
        d_KTGx = lay(d_out, Hk, 1.0)
        subtract((d_out.unflatten(1, (Hk, G)).to(wide) * out_TKGd).sum(-1).transpose(0, 1), d_KTGx, d)
        dq_TKGd = d_out.new_empty(T, Hk, G, d)
        dk_KPd, dv_KPd = (d_out.new_zeros(Hk, k_KPx.shape[1], d, dtype=wide) for _ in range(2))
        for block in plan.blocks:
            own, mask = slice(block.start, block.end), plan.mask(block)
            for heads in head_slices(block, Hk, G):
                q_NRx, d_NRx = (x[heads, own].flatten(1, 2) for x in (q_KTGx, d_KTGx))
                k_NPx, v_NPx = (rows(x[heads], block.keys, 1) for x in (k_KPx, v_KPx))
                dq, dk, dv = how.gradients(d_NRx, q_NRx, k_NPx, v_NPx, mask)
                dq_TKGd[own, heads] = dq.unflatten(1, (-1, G)).transpose(0, 1)
                add_rows(dk_KPd[heads], dk, block.keys)
                add_rows(dv_KPd[heads], dv, block.keys)
        dk_KPd.mul_(how.outside)
        dk, dv = (x.transpose(0, 1).to(d_out.dtype) for x in (dk_KPd, dv_KPd))
        return dq_TKGd.flatten(1, 2), dk, dv, None, None, None


def lay(x_THd: Tensor, n_key_heads: int, factor: float) -> Tensor:
    """(T, H, d) · factor → (Hk, T, G, d + columns): a block of queries with all heads of a group is a view. Columns unset."""
    T, H, d = x_THd.shape
    out = x_THd.new_empty(n_key_heads, T, H // n_key_heads, d + _columns(x_THd.dtype))
    torch.mul(x_THd.unflatten(1, (n_key_heads, -1)).transpose(0, 1), factor, out=out[..., :d])
    return out


def subtract(minus: Tensor, x: Tensor, d: int) -> None:
    """Set the columns of x (…, d + columns) so that its product with what `_keys` laid out is lessened by `minus` (…)."""
    if x.dtype == minus.dtype:
        x[..., d] = minus
        return
    for i in range(PARTS):
        part = minus.to(x.dtype)
        x[..., d + i] = part
        minus = minus - part


def _keys(x_PKd: Tensor) -> Tensor:
    """(P, Hk, d) → (Hk, P, d + columns), -1 in the columns."""
    P, Hk, d = x_PKd.shape
    out = x_PKd.new_empty(Hk, P, d + _columns(x_PKd.dtype))
    out[..., :d] = x_PKd.transpose(0, 1)
    out[..., d:] = -1
    return out


def _columns(dtype: torch.dtype) -> int:
    return 1 if exact_dtype(dtype) == dtype else PARTS

"""Attention by plain batched products, block by block of queries, forward (bfloat16) and backward.

The CPU flash kernels reach about a third of the matrix-product rate, and a fifteenth of it for short nodes. Products reach
most of it, and lose little to rounding: what is to be subtracted from a product is subtracted inside it, before the result is rounded to bfloat16. The
log-sum-exp becomes further columns of the queries, met by -1 in the keys, so q·k·scale − lse comes out near 0 wherever
attention is strong; the same for dO·v − delta (Dao et al. 2022, arXiv 2205.14135, algorithm 4).
"""
import math

import torch
from torch import Tensor

BLOCK = 256  # queries of a causal block, which ends at its own diagonal: longer nodes skip what lies above
PARTS = 3  # 3 · 8 significant bits
SCORES = 1 << 23  # at once; 16 MB in bfloat16, about what the last-level cache holds


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float, *, causal: bool) -> tuple[Tensor, Tensor]:
    """q (B, H, L, d), k and v (B, Hk, P, d) in bfloat16 → output (B, H, L, d) and log-sum-exps (B, H, L), float32.

    Scores are made twice: rounded, to find each row's largest, and then less that.
    """
    B, H, L, d = q.shape
    Hk, P = k.shape[1:3]
    inside, outside = _split_scale(scale)
    q_NGLd = (q * inside if inside != 1 else q).reshape(B * Hk, H // Hk, L, d)
    k_NPx, v_NPd = torch.nn.functional.pad(k, (0, PARTS), value=-1.0).flatten(0, 1), v.flatten(0, 1)
    out_NGLd = torch.empty(q_NGLd.shape, dtype=torch.float32)
    lse_NGL = torch.empty(q_NGLd.shape[:3], dtype=torch.float32)
    for n, rows in _blocks(B * Hk, H // Hk, min(L, BLOCK) if causal else L, L, P):
        end = rows.stop if causal else P
        q_b, k_b = q_NGLd[n, :, rows].flatten(1, 2), k_NPx[n, :end]
        rough = q_b @ k_b[..., :d].transpose(1, 2)
        if causal:
            _hide_future(rough, rows)
        top = rough.amax(-1).float()
        p = _weights(_less(q_b, top), k_b, outside, rows if causal else None)
        total = p.sum(-1, dtype=torch.float32)
        groups = H // Hk, rows.stop - rows.start
        out_NGLd[n, :, rows] = ((p @ v_NPd[n, :end]).float() / total[..., None]).unflatten(1, groups)
        lse_NGL[n, :, rows] = (top.mul_(outside) + total.log_()).unflatten(1, groups)
    return out_NGLd.view(B, H, L, d), lse_NGL.view(B, H, L)


def attention_gradient(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse_BHL: Tensor, scale: float, *, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q (B, H, L, d) and of k and v (B, Hk, P, d), in their types; heads of a group follow one another."""
    B, H, L, d = q.shape
    Hk, P = k.shape[1:3]
    delta_BHL = (d_out.to(lse_BHL.dtype) * out).sum(-1)
    inside, outside = _split_scale(scale)
    q_NGLx = _less(q * inside if inside != 1 else q, lse_BHL / outside).view(B * Hk, H // Hk, L, -1)
    d_NGLx = _less(d_out, delta_BHL).view(B * Hk, H // Hk, L, -1)
    n_more = q_NGLx.shape[-1] - d
    k_NPx, v_NPx = (torch.nn.functional.pad(x, (0, n_more), value=-1.0).flatten(0, 1) for x in (k, v))
    dq_NGLd = q.new_empty(B * Hk, H // Hk, L, d)
    dk_NPd, dv_NPd = (torch.zeros(B * Hk, P, d, dtype=lse_BHL.dtype) for _ in range(2))
    for n, rows in _blocks(B * Hk, H // Hk, min(L, BLOCK) if causal else L, L, P):
        end = rows.stop if causal else P
        q_b, d_b = (x[n, :, rows].flatten(1, 2) for x in (q_NGLx, d_NGLx))
        k_b, v_b = k_NPx[n, :end], v_NPx[n, :end]
        p = _weights(q_b, k_b, outside, rows if causal else None)
        ds = (d_b @ v_b.transpose(1, 2)).mul_(p)
        dq_NGLd[n, :, rows] = (ds @ k_b[..., :d]).mul_(scale).unflatten(1, (H // Hk, -1))
        dk_NPd[n, :end] += ds.transpose(1, 2) @ q_b[..., :d]
        dv_NPd[n, :end] += p.transpose(1, 2) @ d_b[..., :d]
    dk_NPd.mul_(outside)
    return dq_NGLd.view(B, H, L, d), dk_NPd.view(B, Hk, P, d).to(k.dtype), dv_NPd.view(B, Hk, P, d).to(v.dtype)


def _weights(q_NRx: Tensor, k_NPx: Tensor, outside: float, causal: slice | None) -> Tensor:
    """exp(outside · q·k), with what is to be subtracted in q and k already; `causal` names the block's rows."""
    p = q_NRx @ k_NPx.transpose(1, 2)
    if outside != 1:
        p.mul_(outside)
    if causal is not None:
        _hide_future(p, causal)
    return p.exp_()


def _hide_future(scores_NRP: Tensor, rows: slice) -> None:
    """-inf above the diagonal of a causal block, whose last keys are its own queries' places."""
    size = rows.stop - rows.start
    above = torch.ones(size, size, dtype=torch.bool).triu(1)
    scores_NRP.unflatten(1, (-1, size))[..., rows].masked_fill_(above, float("-inf"))


def _less(x: Tensor, minus: Tensor) -> Tensor:
    """x (…, d) beside what its product is to be lessened by: one column, or PARTS that hold a float32 in bfloat16."""
    if x.dtype == minus.dtype:
        return torch.cat([x, minus[..., None]], -1)
    parts: list[Tensor] = []
    rest = minus
    for _ in range(PARTS):
        parts.append(rest.to(x.dtype))
        rest = rest - parts[-1]
    return torch.cat([x, torch.stack(parts, -1)], -1)


def _split_scale(scale: float) -> tuple[float, float]:
    """(inside, outside): a power of two changes no digit of q and goes inside the product; any other stays outside."""
    return (scale, 1.0) if math.frexp(scale)[0] == 0.5 else (1.0, scale)


def _blocks(n_heads: int, groups: int, size: int, n_queries: int, n_keys: int) -> list[tuple[slice, slice]]:
    """(heads, queries) of each product: at most `size` queries, and scores within SCORES where one head's block allows it."""
    size = max(min(size, BLOCK), min(size, SCORES // (groups * n_keys)))
    step = max(1, SCORES // (groups * size * n_keys))
    return [
        (slice(i, min(n_heads, i + step)), slice(j, min(n_queries, j + size)))
        for i in range(0, n_heads, step)
        for j in range(0, n_queries, size)
    ]

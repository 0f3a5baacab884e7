"""Exact attention over a prefix tree where a window or a soft cap keeps the flash kernels out, in bounded memory.

Packed rows are cut into blocks of queries. A block meets only the key ranges that one of its queries sees along its
path; keys of other branches and beyond the window are never touched. Each block's scores are made, used and thrown away,
head by head where they would grow over TILE; the backward pass makes them again from the log-sum-exps (Dao et al. 2022,
arXiv 2205.14135). Saved are q, k, v, out and the log-sum-exps only. Soft cap: s → c · tanh(s / c) (Gemma 2,
arXiv 2408.00118), window: a token sees the `window` nearest tokens of its path, itself included (Mistral, arXiv 2310.06825).
"""
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from typing_extensions import override

from feinschliff.nn.precision import exact_dtype
from feinschliff.nn.tree import Packed

ROWS = 128  # queries in a block at most
TILE = 1 << 20  # scores held at once; 4 MB in float32, near the cache. A single query row may hold more, never less.


@dataclass(frozen=True, slots=True)
class Block:
    """Queries [start, end) and the key places that some of them see, as ascending disjoint ranges."""

    start: int
    end: int
    keys: tuple[tuple[int, int], ...]
    n_keys: int


class Plan:
    """The blocks of one packed tree under one window, for models with `groups` query heads to a key head.

    `before` keys stand before the tree, at positions -before … -1 of every path; key place p + before is packed row p.
    """

    def __init__(self, packed: Packed, window: int | None, groups: int, before: int = 0) -> None:
        self.window, self.before = window, before
        self._nodes = [n for n in packed.nodes if n.end > n.start]
        self._positions = packed.positions_T.tolist()
        T = len(packed)
        reach_T = torch.empty(T, dtype=torch.int32)  # the first row behind all that can see this row
        for node in self._nodes:
            reach_T[node.start : node.end] = node.subtree_end
        ahead = torch.arange(-before, 0, dtype=torch.int32)
        self._row_K = torch.cat([ahead, torch.arange(T, dtype=torch.int32)])
        self._reach_K = torch.cat([torch.full_like(ahead, T), reach_T])
        self._position_K = torch.cat([ahead, packed.positions_T.to(torch.int32)])
        self.blocks = [b for start, end in self._cuts() for b in self._fitting(start, end, groups)]

    def hidden(self, block: Block) -> Tensor:
        """(rows, keys) bool, True where a query does not see a key."""
        row_K, reach_K, position_K = (rows(x, block.keys) for x in (self._row_K, self._reach_K, self._position_K))
        own = slice(block.start + self.before, block.end + self.before)
        row_S = self._row_K[own, None]
        hidden = (row_K > row_S).logical_or_(reach_K <= row_S)
        if self.window is not None:
            hidden.logical_or_(position_K <= self._position_K[own, None] - self.window)
        return hidden

    def _cuts(self) -> list[tuple[int, int]]:
        """Rows parted into runs of at most ROWS: whole neighbouring nodes where they fit, parts of one node elsewhere."""
        cuts: list[tuple[int, int]] = []
        open_at = 0
        for node in self._nodes:
            if node.end - open_at <= ROWS:
                continue
            if node.start > open_at:
                cuts.append((open_at, node.start))
            whole = node.start + (node.end - node.start) // ROWS * ROWS
            cuts += [(s, s + ROWS) for s in range(node.start, whole, ROWS)]
            open_at = whole
        if open_at < len(self._positions):
            cuts.append((open_at, len(self._positions)))
        return cuts

    def _fitting(self, start: int, end: int, groups: int) -> list[Block]:
        """The run as one block, or halved until one key head's scores fit into TILE."""
        keys = self._seen(start, end)
        n_keys = sum(e - s for s, e in keys)
        if end - start == 1 or groups * (end - start) * n_keys <= TILE:
            return [Block(start, end, keys, n_keys)]
        middle = (start + end) // 2
        return self._fitting(start, middle, groups) + self._fitting(middle, end, groups)

    def _seen(self, start: int, end: int) -> tuple[tuple[int, int], ...]:
        """Key places that any query of [start, end) sees; ranges that touch are joined."""
        found: list[tuple[int, int]] = []
        if self.before:
            found.append((max(0, self.before + self._first(min(self._positions[start:end]))), self.before))
        for node in self._nodes:
            if node.start >= end:
                break
            if node.subtree_end <= start:
                continue
            nearest = min(self._positions[max(start, node.start) : min(end, node.subtree_end)])
            first = node.start + max(0, self._first(nearest) - self._positions[node.start])
            found.append((first + self.before, min(node.end, end) + self.before))
        joined: list[tuple[int, int]] = []
        for first, last in found:
            if first >= last:
                continue
            if joined and joined[-1][1] == first:
                joined[-1] = (joined[-1][0], last)
            else:
                joined.append((first, last))
        return tuple(joined)

    def _first(self, position: int) -> int:
        """The first position of a path that a query at `position` sees (negative: among the keys before the tree)."""
        return -self.before if self.window is None else max(-self.before, position - self.window + 1)


def windowed(q: Tensor, k: Tensor, v: Tensor, plan: Plan, *, scale: float, softcap: float | None) -> Tensor:
    """q (H, T, d); k, v (Hk, before + T, d) → (T, H, d), differentiable in all three."""
    out: Tensor = _Windowed.apply(q, k, v, plan, scale, softcap)
    return out


class _Windowed(torch.autograd.Function):
    @staticmethod
    @override
    def forward(  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, plan: Plan, scale: float, softcap: float | None
    ) -> Tensor:
        H, T, d = q.shape
        Hk = k.shape[0]
        q_KGTd = q.unflatten(0, (Hk, H // Hk))
        out = q.new_empty(T, Hk, H // Hk, d)
        lse_KGT = torch.empty(Hk, H // Hk, T, dtype=exact_dtype(q.dtype))
        for block in plan.blocks:
            hidden, own = plan.hidden(block), slice(block.start, block.end)
            for heads in _head_slices(block, Hk, H // Hk):
                q_b, k_b, v_b = q_KGTd[heads, :, own].flatten(1, 2), *(rows(x[heads], block.keys, 1) for x in (k, v))
                scores = _scores(q_b, k_b, scale, softcap)
                _by_query(scores, hidden).masked_fill_(hidden, float("-inf"))
                lse = scores.logsumexp(-1, keepdim=True)
                o = scores.sub_(lse).exp_().to(q.dtype) @ v_b
                out[own, heads] = o.unflatten(1, (H // Hk, -1)).permute(2, 0, 1, 3)
                lse_KGT[heads, :, own] = lse.unflatten(1, (H // Hk, -1))[..., 0]
        ctx.save_for_backward(q, k, v, out, lse_KGT)
        ctx.plan, ctx.scale, ctx.softcap = plan, scale, softcap  # pyrefly: ignore[missing-attribute] – torch's own convention
        return out.flatten(1, 2)

    @staticmethod
    @override
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        q, k, v, out, lse_KGT = ctx.saved_tensors
        plan: Plan = ctx.plan
        Hk, G = lse_KGT.shape[:2]
        wide = lse_KGT.dtype
        q_KGTd, d_out, out = q.unflatten(0, (Hk, G)), d_out.unflatten(1, (Hk, G)).permute(1, 2, 0, 3), out.permute(1, 2, 0, 3)
        delta_KGT = torch.empty_like(lse_KGT)
        dq = torch.empty(q_KGTd.shape, dtype=q.dtype)
        dk, dv = (torch.zeros(x.shape, dtype=wide) for x in (k, v))
        for block in plan.blocks:
            hidden, own = plan.hidden(block), slice(block.start, block.end)
            delta_KGT[:, :, own] = (d_out[:, :, own].to(wide) * out[:, :, own]).sum(-1)
            for heads in _head_slices(block, Hk, G):
                q_b, d_b = (x[heads, :, own].flatten(1, 2) for x in (q_KGTd, d_out))
                k_b, v_b = (rows(x[heads], block.keys, 1) for x in (k, v))
                lse, delta = (x[heads, :, own].flatten(1)[..., None] for x in (lse_KGT, delta_KGT))
                ds, p = _score_gradient(q_b, k_b, v_b, d_b, lse, delta, hidden, ctx.scale, ctx.softcap)
                dq[heads, :, own] = (ds @ k_b).unflatten(1, (G, -1))
                _add(dk[heads], ds.transpose(1, 2) @ q_b, block.keys)
                _add(dv[heads], p.transpose(1, 2) @ d_b, block.keys)
        return dq.flatten(0, 1), dk.to(k.dtype), dv.to(v.dtype), None, None, None


def _scores(q: Tensor, k: Tensor, scale: float, softcap: float | None) -> Tensor:
    """(h, R, K) in float32 or wider, nothing masked."""
    scores = (q @ k.transpose(1, 2)).to(exact_dtype(q.dtype))
    return scores.mul_(scale) if softcap is None else scores.mul_(scale / softcap).tanh_().mul_(softcap)


def _score_gradient(
    q: Tensor, k: Tensor, v: Tensor, d_out: Tensor, lse: Tensor, delta: Tensor, hidden: Tensor, scale: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The gradient of q·kᵀ, and the attention weights, (h, R, K) both, in the products' type."""
    scores = _scores(q, k, scale, softcap)
    ds = (d_out @ v.transpose(1, 2)).to(scores.dtype).sub_(delta)
    if softcap is not None:  # the derivative of the cap, 1 - (s / c)², before masked scores become infinite
        ds.mul_((scores / softcap).square_().neg_().add_(1))
    p = scores.sub_(lse).exp_()
    _by_query(p, hidden).masked_fill_(hidden, 0)
    return ds.mul_(p).mul_(scale).to(q.dtype), p.to(q.dtype)


def _by_query(scores: Tensor, hidden: Tensor) -> Tensor:
    """(h, G·S, K) as (h, G, S, K), so that one mask (S, K) serves all heads."""
    return scores.unflatten(1, (-1, hidden.shape[0]))


def _head_slices(block: Block, n_heads: int, groups: int) -> list[slice]:
    """Key heads taken together: as many as fit into TILE."""
    step = max(1, TILE // (groups * (block.end - block.start) * block.n_keys))
    return [slice(i, min(n_heads, i + step)) for i in range(0, n_heads, step)]


def rows(x: Tensor, ranges: tuple[tuple[int, int], ...], dim: int = 0) -> Tensor:
    """`ranges` of dimension `dim`, one after the other; a view where it is one range."""
    parts = [x.narrow(dim, first, last - first) for first, last in ranges]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _add(total: Tensor, part: Tensor, ranges: tuple[tuple[int, int], ...]) -> None:
    """Add `part` (h, K, d) to the key places it came from."""
    at = 0
    for first, last in ranges:
        total[:, first:last] += part[:, at : at + last - first]
        at += last - first

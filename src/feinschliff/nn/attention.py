"""Attention over a prefix tree by parts, exact, forward and backward.

For every node: its own tokens attend causally within it (all nodes of similar length in one batched call), and all its
descendants attend to the whole of it (one call without a mask). Partial results are merged by their log-sum-exps, the
algebra of ring attention (Liu et al. 2023, arXiv 2310.01889). Nothing is computed for pairs that do not attend.

Models reach it through transformers' attention interface: `install()` registers one function that hands the
projected heads to whatever `attend` object the forward pass was called with; model code stays untouched.
"""
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from transformers import AttentionInterface
from typing_extensions import override

from feinschliff.nn.attention_products import attention, attention_gradient
from feinschliff.nn.precision import exact_dtype
from feinschliff.nn.tree import Packed
from feinschliff.nn.windowed import Plan, windowed

NAME = "feinschliff"
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
ALONE = 128  # tokens; a node as long as this makes products large enough
_NEVER = 1e30  # log-sum-exp of padding: exp(score - it) is 0


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


@dataclass(frozen=True, slots=True)
class CausalBatch:
    """Nodes of similar length, right-padded to (B, L). `index_BL` gathers packed rows, `real` are the flat unpadded places.

    A node alone is a `span` of packed rows: it is read and written in place.
    """

    index_BL: Tensor
    real: Tensor | None  # None: nothing is padded
    rows: Tensor  # packed rows of the real places
    span: slice | None


class TreeAttend:
    """Attention for one packed tree; used by every layer of a forward pass and its backward."""

    def __init__(self, packed: Packed) -> None:
        self.packed = packed
        self.batches = _causal_batches(packed)
        self.inner = [n for n in packed.nodes if n.subtree_end > n.end and n.end > n.start]
        self._plans: dict[tuple[int | None, int, int], Plan] = {}

    def __call__(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None, softcap: float | None
    ) -> Tensor:
        if softcap is None and (window is None or self.packed.longest_path <= window):
            out: Tensor = _TreeAttention.apply(q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), self, scale)
            return out
        return self.windowed(q, k, v, scale=scale, window=window, softcap=softcap)

    def windowed(
        self, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None, softcap: float | None, before: int = 0
    ) -> Tensor:
        """Attention under a window or a soft cap. The first `before` keys and values stand before the tree, on every path."""
        of = window, q.shape[0] // k.shape[0], before
        if of not in self._plans:  # two kinds of layers at most, and the backward pass asks again
            self._plans[of] = Plan(self.packed, *of)
        return windowed(q, k, v, self._plans[of], scale=scale, softcap=softcap)

    def dense(
        self, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None, softcap: float | None, before: int = 0
    ) -> Tensor:
        """The same by a mask over all pairs, with a (H, T, T) matrix of scores: the tests' oracle."""
        ahead = self.packed.positions_T[:, None] - torch.arange(-before, 0) < (window or 1 << 60)
        mask = torch.cat([ahead, self.packed.dense_mask(window)], 1)
        wide = exact_dtype(q.dtype)
        groups = q.shape[0] // k.shape[0]
        k, v = k.repeat_interleave(groups, 0), v.repeat_interleave(groups, 0)
        scores = (q @ k.transpose(1, 2)).to(wide) * scale
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        scores = scores.masked_fill(~mask, float("-inf"))
        return (scores.softmax(-1).to(v.dtype) @ v).transpose(0, 1)


def tree_parts(q: Tensor, k: Tensor, v: Tensor, tree: TreeAttend, scale: float) -> tuple[Tensor, Tensor]:
    """Attention of every packed token along its path, unrounded, and its log-sum-exps (T, H)."""
    T, H, _d = q.shape
    wide = exact_dtype(q.dtype)
    out = torch.empty(q.shape, dtype=wide)
    lse_TH = torch.empty(T, H, dtype=wide)
    for batch in tree.batches:
        o, lse = _attend(_gather(q, batch), _gather(k, batch), _gather(v, batch), scale, causal=True)
        _scatter(out, o, batch)
        _scatter(lse_TH, lse, batch)
    for node in tree.inner:
        below, own = slice(node.end, node.subtree_end), slice(node.start, node.end)
        merge(out[below], lse_TH[below], q[below], _heads(k[own]), _heads(v[own]), scale)
    return out, lse_TH


def merge(out_SHd: Tensor, lse_SH: Tensor, q_SHd: Tensor, k: Tensor, v: Tensor, scale: float) -> None:
    """Let all queries also attend to all of k, v (1, Hk, P, d); `out_SHd` and `lse_SH` are updated in place."""
    H = q_SHd.shape[1]
    o, lse = _attend(_fold(q_SHd, k.shape[1]), k, v, scale, causal=False)
    o, lse = _unfold(o, H), _unfold(lse[..., None], H)[..., 0]
    total = torch.logaddexp(lse_SH, lse)
    out_SHd.mul_((lse_SH - total).exp_()[..., None])
    out_SHd.add_(o * (lse - total).exp_()[..., None])
    lse_SH.copy_(total)


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float, *, causal: bool) -> tuple[Tensor, Tensor]:
    """Output (B, H, L, d) and log-sum-exps (B, H, L): by products in bfloat16, by the flash kernel in wider types."""
    if q.dtype == torch.bfloat16:
        return attention(q, k, v, scale, causal=causal)
    out, lse = _flash(q, k, v, 0.0, causal, scale=scale)
    return out, lse


class _TreeAttention(torch.autograd.Function):
    """q (T, H, d), k and v (T, Hk, d) → (T, H, d)."""

    @staticmethod
    @override
    def forward(ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, tree: TreeAttend, scale: float) -> Tensor:  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        out, lse_TH = tree_parts(q, k, v, tree, scale)
        out = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, out, lse_TH)
        ctx.tree, ctx.scale = tree, scale  # pyrefly: ignore[missing-attribute] – torch's own convention
        return out

    @staticmethod
    @override
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        q, k, v, out, lse_TH = ctx.saved_tensors
        tree: TreeAttend = ctx.tree
        d_out = d_out.contiguous()
        dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype) for x in (q, k, v))
        for batch in tree.batches:
            lse_BHL, d_here = _gather(lse_TH, batch), _gather(d_out, batch)
            if batch.real is not None:
                _silence_padding(d_here, lse_BHL, batch)
            here = _gather(q, batch), _gather(k, batch), _gather(v, batch), _gather(out, batch)
            grads = attention_gradient(d_here, *here, lse_BHL, ctx.scale, causal=True)
            for total, grad in zip((dq, dk, dv), grads, strict=True):
                _scatter(total, grad, batch)
        Hk = k.shape[1]
        for node in tree.inner:
            below, own = slice(node.end, node.subtree_end), slice(node.start, node.end)
            lse = _fold(lse_TH[below][..., None], Hk)[..., 0].contiguous()
            gq, gk, gv = attention_gradient(
                _fold(d_out[below], Hk), _fold(q[below], Hk), _heads(k[own]), _heads(v[own]), _fold(out[below], Hk), lse,
                ctx.scale, causal=False,
            )  # fmt: skip
            dq[below] += _unfold(gq, q.shape[1])
            dk[own] += gk[0].transpose(0, 1)
            dv[own] += gv[0].transpose(0, 1)
        return dq, dk, dv, None, None


def _gather(x_TH: Tensor, batch: CausalBatch) -> Tensor:
    """(T, H, …) → (B, H, L, …) of the batch's nodes."""
    if batch.span is not None:
        return x_TH[batch.span].transpose(0, 1)[None]
    return x_TH[batch.index_BL].transpose(1, 2)


def _scatter(total_TH: Tensor, x_BHL: Tensor, batch: CausalBatch) -> None:
    """Put (B, H, L, …) at the packed rows it belongs to, padding dropped."""
    if batch.span is not None:
        total_TH[batch.span] = x_BHL[0].transpose(0, 1)
        return
    flat = x_BHL.transpose(1, 2).flatten(0, 1)
    total_TH.index_copy_(0, batch.rows, (flat if batch.real is None else flat[batch.real]).to(total_TH.dtype))


def _silence_padding(d_out_BHLd: Tensor, lse_BHL: Tensor, batch: CausalBatch) -> None:
    """Padding repeats packed row 0; without gradient and with probability 0 it adds nothing."""
    padding_BL = torch.ones(batch.index_BL.numel(), dtype=torch.bool)
    padding_BL[batch.real] = False
    padding_BL = padding_BL.view(batch.index_BL.shape)
    d_out_BHLd.masked_fill_(padding_BL[:, None, :, None], 0)
    lse_BHL.masked_fill_(padding_BL[:, None, :], _NEVER)


def _heads(x_THd: Tensor) -> Tensor:
    return x_THd.transpose(0, 1)[None]


def _fold(x_SHd: Tensor, Hk: int) -> Tensor:
    """(S, H, d) → (1, Hk, G·S, d): grouped heads become more queries of their key head, so keys are not copied."""
    S, H, d = x_SHd.shape
    return x_SHd.view(S, Hk, H // Hk, d).permute(1, 2, 0, 3).reshape(1, Hk, H // Hk * S, d)


def _unfold(x: Tensor, H: int) -> Tensor:
    """(1, Hk, G·S, d) → (S, H, d)."""
    _, Hk, GS, d = x.shape
    G = H // Hk
    return x.view(Hk, G, GS // G, d).permute(2, 0, 1, 3).reshape(GS // G, H, d)


def _causal_batches(packed: Packed) -> list[CausalBatch]:
    """Short nodes in groups, padded by at most a quarter; causal masks make right padding harmless. Long ones alone."""
    nodes = sorted((n for n in packed.nodes if n.end > n.start), key=lambda n: n.end - n.start)
    groups: list[list[tuple[int, int]]] = []
    for node in reversed(nodes):
        length = node.end - node.start
        longest = groups[-1][0][1] - groups[-1][0][0] if groups else 0
        if not groups or length >= ALONE or length < 0.75 * longest:
            groups.append([])
        groups[-1].append((node.start, node.end))
    return [_causal_batch(group) for group in groups]


def _causal_batch(group: list[tuple[int, int]]) -> CausalBatch:
    longest = group[0][1] - group[0][0]
    index_BL = torch.zeros(len(group), longest, dtype=torch.int64)
    real_BL = torch.zeros(len(group), longest, dtype=torch.bool)
    for b, (start, end) in enumerate(group):
        index_BL[b, : end - start] = torch.arange(start, end)
        real_BL[b, : end - start] = True
    real = None if real_BL.all() else real_BL.flatten().nonzero()[:, 0]
    flat = index_BL.flatten()
    return CausalBatch(index_BL, real, flat if real is None else flat[real], slice(*group[0]) if len(group) == 1 else None)


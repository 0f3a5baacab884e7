"""Attention over a prefix tree through the kernels: where they fit, in place of `nn.attention_products`.

Saved are q, k, v, the output and the log-sum-exps. Results do not depend on the number of threads while there are at most two
for every key head: keys' and values' gradients are summed in a fixed number of chunks of blocks, and these in their order.
"""
import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from typing_extensions import override

from feinschliff.nn.blocks import Plan
from feinschliff.nn.native import kernels as native
from feinschliff.nn.native.kernels import HEAD_DIMS, KEYS, CAttention, Kernels

CHUNKS = 2  # of blocks: with three key heads, as SmolLM2 has, six equal parts of work


def attention_kernels(q: Tensor, k: Tensor, v: Tensor, softcap: float | None) -> Kernels | None:
    """The kernels, where they are there and know such heads (T, H, d)."""
    fits = softcap is None and all(x.dtype == torch.bfloat16 and x.device.type == "cpu" and x.stride(-1) == 1 for x in (q, k, v))
    return native.loaded() if fits and q.shape[-1] in HEAD_DIMS else None


class Laid:
    """A plan as the kernels read it: places of keys, groups of eight keys that each block meets, chunks of blocks."""

    def __init__(self, plan: Plan, key_heads: int) -> None:
        self.before, self.window = plan.before, plan.window or 0
        self.n_places = len(plan.keys.row_K)
        self.padded = -(-self.n_places // KEYS) * KEYS
        empty = torch.full((self.padded - self.n_places,), torch.iinfo(torch.int32).max, dtype=torch.int32)  # seen by none
        self.row, self.reach, self.position = (torch.cat([x, empty]) for x in (plan.keys.row_K, plan.keys.reach_K, plan.keys.position_K))
        groups: list[int] = []
        blocks: list[tuple[int, int, int, int]] = []
        for b in plan.blocks:
            own = sorted({g for first, last in b.keys for g in range(first // KEYS, (last - 1) // KEYS + 1)})
            blocks.append((b.start, b.end, len(groups), len(own)))
            groups += own
        self.n_blocks = len(blocks)
        self.groups, self.blocks = torch.tensor(groups, dtype=torch.int32), torch.tensor(blocks, dtype=torch.int32)
        chunks = [(first, last, *self._touched(first, last)) for first, last in self._parted(key_heads)]
        self.n_chunks, self.chunks = len(chunks), torch.tensor(chunks, dtype=torch.int32)

    def _parted(self, key_heads: int) -> list[tuple[int, int]]:
        """Blocks in chunks of about equal work."""
        n = max(CHUNKS, -(-torch.get_num_threads() // key_heads))
        start, end, _, groups = self.blocks.to(torch.int64).unbind(1)
        done = ((end - start) * groups).cumsum(0)
        cuts = [int(torch.searchsorted(done, done[-1] * i // n)) for i in range(n)]
        return [(first, last) for first, last in zip([0, *cuts[1:]], [*cuts[1:], self.n_blocks], strict=True) if first < last]

    def _touched(self, first: int, last: int) -> tuple[int, int]:
        """The key places that these blocks' groups lie between."""
        _, _, at, n = self.blocks[first:last].unbind(1)
        own = self.groups[int(at[0]) : int(at[-1] + n[-1])]
        return int(own.min()) * KEYS, int(own.max() + 1) * KEYS


def attention(kernels: Kernels, q: Tensor, k: Tensor, v: Tensor, laid: Laid, *, scale: float) -> Tensor:
    """q (T, H, d); k, v (before + T, Hk, d) → (T, H, d), differentiable in all three."""
    out: Tensor = _Attention.apply(q, k, v, kernels, laid, scale)
    return out


class _Attention(torch.autograd.Function):
    @staticmethod
    @override
    def forward(  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, kernels: Kernels, laid: Laid, scale: float
    ) -> Tensor:
        T, H, d = q.shape
        out, lse_TH = q.new_empty(T, H, d), q.new_empty(T, H, dtype=torch.float32)
        rows, pairs = (q.new_empty(k.shape[1], laid.padded, d) for _ in range(2))
        _call(kernels.tree_forward, _arguments(laid, q, k, v, scale), out=out, lse=lse_TH, rows=rows, pairs=pairs)
        ctx.save_for_backward(q, k, v, out, lse_TH)
        ctx.kernels, ctx.laid, ctx.scale = kernels, laid, scale  # pyrefly: ignore[missing-attribute] – torch's own convention
        return out

    @staticmethod
    @override
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        q, k, v, out, lse_TH = ctx.saved_tensors
        laid: Laid = ctx.laid
        Hk, d = k.shape[1:]
        if d_out.stride(-1) != 1:
            d_out = d_out.contiguous()
        dq, dk, dv = (x.new_empty(x.shape) for x in (q, k, v))
        rows = q.new_empty(2, Hk, laid.padded, d)
        pairs = q.new_empty(Hk, laid.padded, d)
        sums = [q.new_empty(laid.n_chunks, Hk, laid.padded, d, dtype=torch.float32) for _ in range(2)]
        arguments = _arguments(laid, q, k, v, ctx.scale)
        arguments.d_row, arguments.d_head = d_out.stride()[:2]
        _call(
            ctx.kernels.tree_backward, arguments, d_out=d_out, out=out, lse=lse_TH, dq=dq, dk=dk, dv=dv, rows=rows, pairs=pairs,
            dk_sums=sums[0], dv_sums=sums[1],
        )  # fmt: skip
        return dq, dk, dv, None, None, None


def _arguments(laid: Laid, q: Tensor, k: Tensor, v: Tensor, scale: float) -> CAttention:
    arguments = CAttention(
        n_blocks=laid.n_blocks, n_chunks=laid.n_chunks, n_places=laid.n_places, padded=laid.padded, heads=q.shape[1],
        key_heads=k.shape[1], d=q.shape[2], before=laid.before, window=laid.window, scale=scale,
    )  # fmt: skip
    for name, x in (("q", q), ("k", k), ("v", v)):
        setattr(arguments, name, x.data_ptr())
        setattr(arguments, f"{name}_row", x.stride(0))
        setattr(arguments, f"{name}_head", x.stride(1))
    for name in ("row", "reach", "position", "groups", "blocks", "chunks"):
        setattr(arguments, name, getattr(laid, name).data_ptr())
    return arguments


def _call(kernel: native.Call, arguments: CAttention, **tensors: Tensor) -> None:
    """Raises MemoryError."""
    for name, x in tensors.items():
        setattr(arguments, name, x.data_ptr())
    if kernel(ctypes.byref(arguments)):
        raise MemoryError("The attention kernel got no memory.")

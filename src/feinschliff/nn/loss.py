"""Cross-entropy on trained positions only, in chunks; a (tokens × vocabulary) matrix never exists as a whole."""
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from feinschliff.nn.precision import exact_dtype

CHUNK = 128  # rows; 128 × 49,152 logits in float32 are 25 MB and stay near the last-level cache


class _HeadLoss(torch.autograd.Function):
    """Weighted sum of negative log-likelihoods; the gradient is made in the forward pass, while the logits are there."""

    @staticmethod
    @override
    def forward(  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        ctx: Any,
        hidden_RD: Tensor,
        head: Tensor,
        targets_R: Tensor,
        weights_R: Tensor,
        dtype: torch.dtype,
        softcap: float | None,
    ) -> tuple[Tensor, Tensor]:
        head_low = head.to(dtype)
        wide = exact_dtype(dtype)
        d_hidden = torch.empty_like(hidden_RD, dtype=dtype)
        d_head = torch.zeros_like(head, dtype=wide) if ctx.needs_input_grad[1] else None
        loss, n_correct = hidden_RD.new_zeros((), dtype=wide), targets_R.new_zeros(())
        # Two buffers for all chunks: fresh ones of this size cost more in page faults than the arithmetic on them.
        buffer = hidden_RD.new_empty(min(CHUNK, hidden_RD.shape[0]), head.shape[0], dtype=wide)
        low = torch.empty_like(buffer, dtype=dtype)
        for i in range(0, hidden_RD.shape[0], CHUNK):
            rows = slice(i, i + CHUNK)
            h, t, w = hidden_RD[rows].to(dtype), targets_R[rows], weights_R[rows, None].to(wide)
            z, dz = buffer[: len(t)], low[: len(t)]
            z.copy_(torch.mm(h, head_low.t(), out=dz))
            if softcap is not None:
                z.div_(softcap).tanh_().mul_(softcap)
            top, best = z.max(-1, keepdim=True)
            n_correct += (best[:, 0] == t).sum()
            z_target = z.gather(1, t[:, None])
            slope = 1 - (z / softcap).square() if softcap is not None else None
            total = z.sub_(top).exp_().sum(-1, keepdim=True)  # z is now softmax · total
            loss += ((top + total.log() - z_target) * w).sum()
            z.mul_(w / total)
            z.scatter_add_(1, t[:, None], -w)
            if slope is not None:
                z.mul_(slope)
            torch.mm(dz.copy_(z), head_low, out=d_hidden[rows])
            if d_head is not None:
                d_head += (dz.t() @ h).to(wide)
        ctx.save_for_backward(d_hidden, d_head)
        ctx.mark_non_differentiable(n_correct)
        return loss, n_correct

    @staticmethod
    @override
    def backward(ctx: Any, d_loss: Tensor, _: Tensor) -> tuple[Tensor, Tensor | None, None, None, None, None]:  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        d_hidden, d_head = ctx.saved_tensors
        return d_hidden * d_loss, None if d_head is None else d_head * d_loss, None, None, None, None


def head_loss(
    hidden_RD: Tensor, head: Tensor, targets_R: Tensor, weights_R: Tensor, *, dtype: torch.dtype, softcap: float | None
) -> tuple[Tensor, int]:
    """Σ weight · -log p(target) over rows, and how many targets were the most likely token."""
    loss, n_correct = _HeadLoss.apply(hidden_RD, head, targets_R, weights_R, dtype, softcap)
    return loss, int(n_correct)

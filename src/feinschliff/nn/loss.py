"""Cross-entropy on trained positions only, in chunks; a (tokens × vocabulary) matrix never exists as a whole."""
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from feinschliff.nn.native.rows import row_kernels, softmax_loss
from feinschliff.nn.precision import exact_dtype

CHUNK = 128  # rows; 128 × 49,152 logits in float32 are 25 MB and stay near the last-level cache
# Through the kernels, where float32 logits never exist: as many rows as make the head's products fast, in a buffer that glibc keeps.
# Over 32 MiB it maps one anew each time, and the first product into it takes half as long again (page faults).
LOW_CHUNK = 384
LOW_BYTES = (32 << 20) - 4096


def low_chunk(vocabulary: int) -> int:
    """Rows of bfloat16 logits at once."""
    return max(CHUNK, min(LOW_CHUNK, LOW_BYTES // (2 * vocabulary)))


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
        kernels = row_kernels(dtype, hidden_RD.device) if softcap is None else None
        # The same buffers for all chunks: fresh ones of this size cost more in page faults than the arithmetic on them.
        # Through the kernels as large as may be, however few rows there are: so the measured cost of a few (train.memory) holds for many.
        n_rows = hidden_RD.shape[0]
        most = max(1, min(CHUNK, n_rows)) if kernels is None else low_chunk(head.shape[0])  # an idle rank has no rows
        low = hidden_RD.new_empty(most, head.shape[0], dtype=dtype)
        buffer = torch.empty_like(low, dtype=wide) if kernels is None else low
        chunk = -(-n_rows // -(-n_rows // most)) if n_rows else most  # equal ones: products of few rows are slow
        for i in range(0, n_rows, chunk):
            rows = slice(i, i + chunk)
            h, t, w = hidden_RD[rows].to(dtype), targets_R[rows], weights_R[rows, None].to(wide)
            z, dz = buffer[: len(t)], low[: len(t)]
            torch.mm(h, head_low.t(), out=dz)
            if kernels is None:
                added, correct = _to_gradient(z.copy_(dz), t, w, softcap)
                dz.copy_(z)
            else:
                added, correct = softmax_loss(kernels, dz, t, w.contiguous())
            loss += added
            n_correct += correct
            torch.mm(dz, head_low, out=d_hidden[rows])
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


def _to_gradient(z_RV: Tensor, targets_R: Tensor, weights_R1: Tensor, softcap: float | None) -> tuple[Tensor, Tensor]:
    """The chunk's loss and how many are right; its logits z become the gradient."""
    if softcap is not None:
        z_RV.div_(softcap).tanh_().mul_(softcap)
    top, best = z_RV.max(-1, keepdim=True)
    z_target = z_RV.gather(1, targets_R[:, None])
    slope = 1 - (z_RV / softcap).square() if softcap is not None else None
    total = z_RV.sub_(top).exp_().sum(-1, keepdim=True)  # z is now softmax · total
    loss = ((top + total.log() - z_target) * weights_R1).sum()
    z_RV.mul_(weights_R1 / total)
    z_RV.scatter_add_(1, targets_R[:, None], -weights_R1)
    if slope is not None:
        z_RV.mul_(slope)
    return loss, (best[:, 0] == targets_R).sum()


def head_loss(
    hidden_RD: Tensor, head: Tensor, targets_R: Tensor, weights_R: Tensor, *, dtype: torch.dtype, softcap: float | None
) -> tuple[Tensor, int]:
    """Σ weight · -log p(target) over rows, and how many targets were the most likely token."""
    loss, n_correct = _HeadLoss.apply(hidden_RD, head, targets_R, weights_R, dtype, softcap)
    return loss, int(n_correct)

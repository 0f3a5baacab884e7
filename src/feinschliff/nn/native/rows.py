"""What happens to rows between products, through the kernels. Each function's torch counterpart is named in its comment.

Rows are bfloat16 and may be parts of wider ones; the residual, norms and angles are float32.
"""
import torch
from torch import Tensor

from feinschliff.nn.native import kernels as native
from feinschliff.nn.native.kernels import LANES, Kernels


def row_kernels(dtype: torch.dtype, device: torch.device, *widths: int) -> Kernels | None:
    """The kernels, where they are there and products are of a type and rows of widths that they know."""
    fits = dtype == torch.bfloat16 and device.type == "cpu" and all(n % LANES == 0 for n in widths)
    return native.loaded() if fits else None


def normalise_into(kernels: Kernels, x_TD: Tensor, weight_D: Tensor, eps: float, y_TD: Tensor) -> Tensor:
    """nn.norm.normalise, into y; returns 1 / rms(x) (T, 1)."""
    T, D = x_TD.shape
    x_TD = x_TD.contiguous()
    rstd_T1 = x_TD.new_empty(T, 1)
    kernels.norm_forward(x_TD.data_ptr(), weight_D.data_ptr(), eps, T, D, y_TD.data_ptr(), y_TD.stride(0), rstd_T1.data_ptr())
    return rstd_T1


def normalise_backward(kernels: Kernels, dy_TD: Tensor, x_TD: Tensor, weight_D: Tensor, rstd_T1: Tensor, past_TD: Tensor | None) -> Tensor:
    """nn.norm.normalise_backward, plus `past`: the gradient that came past the norm."""
    x_TD = x_TD.contiguous()
    past_TD = None if past_TD is None else past_TD.contiguous()
    dx_TD = torch.empty_like(x_TD)
    kernels.norm_backward(
        dy_TD.data_ptr(), dy_TD.stride(0), x_TD.data_ptr(), weight_D.data_ptr(), rstd_T1.data_ptr(),
        None if past_TD is None else past_TD.data_ptr(), *x_TD.shape, dx_TD.data_ptr(),
    )  # fmt: skip
    return dx_TD


def add(kernels: Kernels, x_TD: Tensor, part_TD: Tensor) -> Tensor:
    """x + part."""
    x_TD, part_TD = x_TD.contiguous(), part_TD.contiguous()
    y_TD = torch.empty_like(x_TD)
    kernels.add_rows(x_TD.data_ptr(), part_TD.data_ptr(), *x_TD.shape, y_TD.data_ptr())
    return y_TD


def rotate(kernels: Kernels, x_THd: Tensor, cos_T1h: Tensor, sin_T1h: Tensor, out_THd: Tensor, *, turn: float = 1.0) -> None:
    """nn.fused.rotate; heads stand side by side. `turn` -1 is the way back; `out` may be x."""
    T, H, d = x_THd.shape
    kernels.rotate_heads(
        x_THd.data_ptr(), x_THd.stride(0), cos_T1h.data_ptr(), sin_T1h.data_ptr(), cos_T1h.stride(0), turn, T, H, d // 2,
        out_THd.data_ptr(), out_THd.stride(0),
    )  # fmt: skip


def gate_into(kernels: Kernels, gate_up_TM: Tensor, y_TN: Tensor) -> None:
    """silu(gate) · up, into y."""
    kernels.gate_forward(gate_up_TM.data_ptr(), *y_TN.shape, y_TN.data_ptr(), y_TN.stride(0))


def gate_backward(kernels: Kernels, dy_TN: Tensor, gate_up_TM: Tensor) -> Tensor:
    """Gradient of (gate, up) from that of their gated product, which then stands in its gradient's place."""
    dx_TM = torch.empty_like(gate_up_TM)
    kernels.gate_backward(dy_TN.data_ptr(), dy_TN.stride(0), gate_up_TM.data_ptr(), *dy_TN.shape, dx_TM.data_ptr())
    return dx_TM


def softmax_loss(kernels: Kernels, logits_RV: Tensor, targets_R: Tensor, weights_R: Tensor) -> tuple[Tensor, Tensor]:
    """Σ weight · -log softmax(logits)[target] and how many targets are the most likely; logits become its gradient."""
    losses_R = logits_RV.new_empty(len(targets_R), dtype=torch.float32)
    best_R = torch.empty(len(targets_R), dtype=torch.int32)
    kernels.loss_rows(
        logits_RV.data_ptr(), targets_R.data_ptr(), weights_R.data_ptr(), *logits_RV.shape, losses_R.data_ptr(), best_R.data_ptr()
    )
    return losses_R.sum(), (best_R == targets_R).sum()

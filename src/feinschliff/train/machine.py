"""How fast this machine multiplies matrices of the model's shapes, in either precision and through either library; the choices
that follow."""
import time
from collections import Counter
from collections.abc import Sequence
from functools import cache, partial

import torch

from feinschliff.core.jobs import Full, Library, MatrixSpeed, TrainSpec
from feinschliff.nn.multiply import Multiply, blas, has_onednn, onednn
from feinschliff.train.device import ON_CPU, Device
from feinschliff.train.shape import ModelShape

ROUNDS = 12
LIMIT_S = 0.3  # per precision and library
MARGIN = 1.3  # bf16 rounds, so it must be clearly faster; a busy machine's measurements vary by less than this
# oneDNN sums in another order, so where noise could turn the choice, two runs of one spec would differ in their last bits.
# Seen: 1.1 (Zen 4; once 1.27 on the busy machine) and 2.2 (Zen 5).
LIBRARY_MARGIN = 1.4
SMALL = 3_000_000  # parameters; below this, products are too short for their speed to matter


@cache
def measure(shape: ModelShape, device: Device = ON_CPU) -> MatrixSpeed:
    """Products alone with weights of `shape`, each shape as often as the model has it. Takes under a second.

    Measured once a process: runs that share it shall choose the same precision.
    """
    counts = Counter((linear.n_out, linear.n_in) for linear in shape.linears)
    largest = [s for s, _ in sorted(counts.items(), key=lambda c: -c[1] * c[0][0] * c[0][1])][:4]  # nearly all of the work
    each = [(n_out, n_in, counts[n_out, n_in]) for n_out, n_in in largest]
    return MatrixSpeed(
        bf16=_rate(each, torch.bfloat16, device, blas),
        fp32=_rate(each, torch.float32, device, blas),
        fp32_onednn=_rate(each, torch.float32, device, onednn) if device.where.type == "cpu" and has_onednn() else 0.0,
    )


def library(spec: TrainSpec, shape: ModelShape, speed: MatrixSpeed) -> Library:
    """Which library makes a first start's fp32 products with frozen weights; full fine-tuning has none."""
    if isinstance(spec.method, Full) or shape.parameters < SMALL:
        return "blas"
    return "onednn" if speed.fp32_onednn >= LIBRARY_MARGIN * speed.fp32 else "blas"


def choose(spec: TrainSpec, shape: ModelShape, speed: MatrixSpeed) -> tuple[str, str]:
    """The precision of a first start, and why."""
    if spec.precision != "auto":
        return spec.precision, "as asked for"
    if shape.parameters < SMALL:
        return "fp32", f"the model has only {shape.parameters:,} parameters, so rounding to bf16 would buy no time"
    fp32 = speed.of("fp32", library(spec, shape, speed))
    ratio = speed.bf16 / fp32
    said = f"bf16 products run at {speed.bf16 / 1e9:,.0f} GFLOP/s, fp32 at {fp32 / 1e9:,.0f}: {ratio:.2f} times"
    if ratio >= MARGIN:
        return "bf16", f"{said}, at least {MARGIN}"
    return "fp32", f"{said}, below {MARGIN}"


@torch.no_grad()
def _rate(shapes: Sequence[tuple[int, int, int]], dtype: torch.dtype, device: Device, multiply: Multiply) -> float:
    """FLOP/s over products (rows, n_in) · (n_out, n_in)ᵀ, weighted by how often each occurs; the best time of each."""
    rows = max(32, min(device.effort.rows, int(device.effort.flops / sum(2 * n_out * n_in for n_out, n_in, _ in shapes))))
    generator = torch.Generator().manual_seed(0)  # the run's own randomness stays untouched
    x_RK = torch.rand(rows, max(n_in for _, n_in, _ in shapes), generator=generator).to(device.where, dtype)
    pairs = [
        (x_RK[:, :n_in].contiguous(), torch.rand(n_out, n_in, generator=generator).to(device.where, dtype))
        for n_out, n_in, _ in shapes
    ]
    best_s = [device.seconds(partial(multiply, x, w, None)) for x, w in pairs]
    end = time.monotonic() + LIMIT_S
    for _ in range(ROUNDS):
        best_s = [min(before, device.seconds(partial(multiply, x, w, None))) for before, (x, w) in zip(best_s, pairs, strict=True)]
        if time.monotonic() > end:
            break
    flops = sum(n * 2 * rows * n_out * n_in for n_out, n_in, n in shapes)
    return flops / sum(n * seconds for (_, _, n), seconds in zip(shapes, best_s, strict=True))

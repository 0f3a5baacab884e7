"""This machine as a job would find it."""
import time
from functools import cache
from pathlib import Path

import numpy as np

from feinschliff.catalog.available import all_bytes, available_bytes
from feinschliff.catalog.fit import Hardware

SIDE = 768  # of the matrices that are multiplied; about the width of a small model's layers
ROUNDS = 5


def this_machine(root: Path = Path("/"), *, measured: bool = True, whole: bool = False) -> Hardware:
    """Free memory now, or with `whole` all that there is, and the rate of fp32 matrix products (measured once, in some 20 ms;
    left out where `measured` is False).
    """
    return Hardware(
        name="local", memory_bytes=all_bytes(root) if whole else available_bytes(root), whole=whole,
        flops_per_s=_matrix_rate() if measured else None, bf16=_multiplies_bf16(root),
    )  # fmt: skip


@cache
def _matrix_rate() -> float:
    """FLOP/s, the best of a few products."""
    a = np.ones((SIDE, SIDE), np.float32)
    out = np.empty_like(a)
    best = float("inf")
    for _ in range(ROUNDS):
        t0 = time.perf_counter()
        np.matmul(a, a, out=out)
        best = min(best, time.perf_counter() - t0)
    return 2 * SIDE**3 / best


def _multiplies_bf16(root: Path) -> bool:
    try:
        flags = (root / "proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags

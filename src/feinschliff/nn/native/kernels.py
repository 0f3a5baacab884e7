"""The kernels' arguments as Python sees them; what they mean is said in the C sources."""
import ctypes as c
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from feinschliff.nn.native.build import library

SOURCES = tuple(Path(__file__).parent / name for name in ("attend.c", "rows.c"))
HEAD_DIMS = (32, 64, 96, 128, 256)
LANES = 16
KEYS = 8  # of a group

Pointer = c.c_void_p


class CAttention(c.Structure):
    _fields_ = (
        *((name, Pointer) for name in ("q", "k", "v", "d_out")),
        *((name, c.c_int64) for name in ("q_row", "k_row", "v_row", "d_row", "q_head", "k_head", "v_head", "d_head")),
        *((name, Pointer) for name in (
            "out", "dq", "dk", "dv", "lse", "dk_sums", "dv_sums", "rows", "pairs", "row", "reach", "position", "groups", "blocks", "chunks",
        )),
        *((name, c.c_int32) for name in (
            "n_blocks", "n_chunks", "n_places", "padded", "heads", "key_heads", "d", "before", "window",
        )),
        ("scale", c.c_float),
    )  # fmt: skip


class Call(Protocol):
    def __call__(self, *arguments: object) -> int: ...


Signature = tuple[Any, ...]  # ctypes of the result (None: nothing), then of the arguments; ctypes has no public name for them


def bound(library: c.CDLL, signatures: Mapping[str, Signature]) -> dict[str, Call]:
    """Functions of a library by their names, told what they take and give."""
    found: dict[str, Call] = {}
    for name, (result, *arguments) in signatures.items():
        function = library[name]
        function.restype, function.argtypes = result, arguments
        found[name] = function
    return found


@dataclass(frozen=True, slots=True)
class Kernels:
    """The library's functions."""

    tree_forward: Call
    tree_backward: Call
    norm_forward: Call
    norm_backward: Call
    add_rows: Call
    rotate_heads: Call
    gate_forward: Call
    gate_backward: Call
    loss_rows: Call

    @classmethod
    def of(cls, library: c.CDLL) -> "Kernels":
        p, i, i64, f = Pointer, c.c_int32, c.c_int64, c.c_float
        signatures: dict[str, Signature] = {
            "tree_forward": (i, p),
            "tree_backward": (i, p),
            "norm_forward": (None, p, p, f, i, i, p, i64, p),
            "norm_backward": (None, p, i64, p, p, p, p, i, i, p),
            "add_rows": (None, p, p, i, i, p),
            "rotate_heads": (None, p, i64, p, p, i64, f, i, i, i, p, i64),
            "gate_forward": (None, p, i, i, p, i64),
            "gate_backward": (None, p, i64, p, i, i, p),
            "loss_rows": (None, p, p, p, i, i, p, p),
        }
        return cls(**bound(library, signatures))


@cache
def loaded() -> Kernels | None:
    """The kernels, or None where they are not to be had."""
    found = library(*SOURCES)
    return None if found is None else Kernels.of(found)

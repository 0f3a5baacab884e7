"""The kernels' arguments as Python sees them; what they mean is said in the C sources."""
import ctypes as c
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from feinschliff.nn.native.build import library
from feinschliff.nn.native.kernels import Call, Pointer, Signature, bound

SOURCES = tuple(Path(__file__).parent / name for name in ("product.c", "rows.c", "attend.c"))
LOW = 32  # a low-rank row has room for whole blocks of so many


class CWeights(c.Structure):
    _fields_ = (("data", Pointer), ("ranges", Pointer), ("n_out", c.c_int32), ("n_in", c.c_int32))


class CAdapter(c.Structure):
    _fields_ = (("into", Pointer), ("out_of", Pointer))


class CMembers(c.Structure):
    _fields_ = (("rows", Pointer), ("n_rows", c.c_int32))


class COperands(c.Structure):
    _fields_ = (
        ("x", Pointer), ("x_stride", c.c_int64), ("y", Pointer), ("y_stride", c.c_int64), ("low", Pointer),
        ("low_stride", c.c_int64), ("n_rows", c.c_int32),
    )  # fmt: skip


class CGroup(c.Structure):
    _fields_ = (("leader", c.c_int32), ("common", c.c_int32), ("first", c.c_int32), ("n", c.c_int32))


class CAttention(c.Structure):
    _fields_ = (
        ("q", Pointer), ("keys", Pointer), ("values", Pointer), ("out", Pointer), ("slots", Pointer), ("lengths", Pointer),
        ("order", Pointer), ("groups", Pointer), ("capacity", c.c_int64), ("n_groups", c.c_int32), ("heads", c.c_int32),
        ("key_heads", c.c_int32), ("d", c.c_int32), ("window", c.c_int32), ("scale", c.c_float),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kernels:
    """The library's functions."""

    product: Call
    normalise: Call
    rotate_and_keep: Call
    gate: Call
    attend: Call

    @classmethod
    def of(cls, library: c.CDLL) -> "Kernels":
        p, i, i64 = Pointer, c.c_int32, c.c_int64
        signatures: dict[str, Signature] = {
            "product": (None, p, p, p, p, i, i),
            "normalise": (None, p, p, c.c_float, i, i, p),
            "rotate_and_keep": (None, p, p, p, p, i64, i, i, i, i, p, p, p, p, p),
            "gate": (None, p, i, i, p),
            "attend": (i, p),
        }
        return cls(**bound(library, signatures))


@cache
def loaded() -> Kernels | None:
    """The kernels, or None where they are not to be had."""
    found = library(*SOURCES)
    return None if found is None else Kernels.of(found)

"""The lean forward pass through the kernels: bfloat16 products and states of float32 between them."""
import ctypes
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from feinschliff.nn.native.kernels import HEAD_DIMS, LANES
from feinschliff.serve.live.attend import Part, Shared, StepAttend
from feinschliff.serve.live.layers import Layers
from feinschliff.serve.live.native.kernels import CAttention, CGroup, Kernels
from feinschliff.serve.live.native.products import NativeProduct, NativeRows

MEMBERS = 4  # conversations that read a common beginning together; more groups keep all threads busy
TOGETHER = 8  # rows of one piece of a prompt
SHORT = 64  # rows; products of whole matrices are better for longer pieces


def fits(layers: Layers[NativeProduct]) -> bool:
    """Whether the kernels know these shapes."""
    sizes = [layers.norm.weight.shape[0], *(layer.down.n_in for layer in layers.each)]
    asked = [layer.asked for layer in layers.each]
    alike = len({(layer.qkv.n_out, layer.out.n_in) for layer in layers.each}) == 1
    return alike and all(s % LANES == 0 for s in sizes) and all(a.head_dim in HEAD_DIMS and a.softcap is None for a in asked)


class NativeForward:
    """Embedding, layers and final norm."""

    def __init__(self, kernels: Kernels, layers: Layers[NativeProduct], rows: NativeRows) -> None:
        self._kernels, self._layers, self._rows = kernels, layers, rows

    def __call__(self, tokens_T: Tensor, positions_T: Tensor, attend: StepAttend) -> Tensor:
        """(T,) ids and positions → (T, D) bfloat16."""
        x_TD, cos, sin = self._layers.begin(tokens_T, positions_T)
        x_TD, cos, sin = (x.float().contiguous() for x in (x_TD, cos, sin))
        T = x_TD.shape[0]
        low_TR = self._rows.low(T)
        heads = Heads(self._kernels, attend, T, self._layers.each[0].qkv.n_out)
        normed_TD = torch.empty_like(x_TD, dtype=torch.bfloat16)
        for number, layer in enumerate(self._layers.each):
            self._normalise(x_TD, layer.before.weight, layer.before.eps, normed_TD)
            qkv_TN = torch.empty(T, layer.qkv.n_out)
            self._rows.multiply(layer.qkv, normed_TD, low_TR, qkv_TN)
            attended = heads(number, qkv_TN, cos, sin, layer.asked.scale, layer.asked.window)
            self._rows.multiply(layer.out, attended, low_TR, x_TD, add=True)
            self._normalise(x_TD, layer.between.weight, layer.between.eps, normed_TD)
            gate_up_TN = torch.empty(T, layer.gate_up.n_out)
            self._rows.multiply(layer.gate_up, normed_TD, low_TR, gate_up_TN)
            gated_TN = torch.empty(T, layer.down.n_in, dtype=torch.bfloat16)
            self._kernels.gate(gate_up_TN.data_ptr(), T, layer.down.n_in, gated_TN.data_ptr())
            self._rows.multiply(layer.down, gated_TN, low_TR, x_TD, add=True)
        self._normalise(x_TD, self._layers.norm.weight, self._layers.norm.eps, normed_TD)
        return normed_TD

    def _normalise(self, x_TD: Tensor, weight: Tensor, eps: float, y_TD: Tensor) -> None:
        self._kernels.normalise(x_TD.data_ptr(), weight.data_ptr(), eps, *x_TD.shape, y_TD.data_ptr())


class Heads:
    """Attention of one step, layer by layer: rows of one token by the kernel, pieces of prompts by StepAttend."""

    def __init__(self, kernels: Kernels, attend: StepAttend, T: int, width: int) -> None:
        self._kernels, self._attend, self._T = kernels, attend, T
        slots = attend.slots
        Hk, d = slots.shape.heads, slots.shape.head_dim
        self._H = width // d - 2 * Hk
        self._q = torch.empty(T, self._H, d, dtype=torch.bfloat16)
        self._k, self._v = (torch.empty(T, Hk, d, dtype=torch.bfloat16) for _ in range(2))
        self._out = torch.empty_like(self._q)
        starts = [(p.slot * Hk * slots.capacity + p.start, p.n) for p in attend.parts]
        self._places_T = torch.tensor([place for start, n in starts for place in range(start, start + n)])
        first = [0, *accumulate(p.n for p in attend.parts)]
        placed = list(zip(attend.parts, first, strict=False))
        pieces = [(p, at) for p, at in placed if p.n > 1]
        self._long = [(i, slice(at, at + p.n)) for i, (p, at) in enumerate(pieces) if p.n > SHORT]
        short = [(p, at) for p, at in placed if p.n <= SHORT]
        self._kept: list[object] = []
        self._attention = self._prepared(short, attend.shared) if short else None

    def __call__(self, layer: int, qkv_TN: Tensor, cos: Tensor, sin: Tensor, scale: float, window: int | None) -> Tensor:
        """(T, H · d) in bfloat16."""
        slots = self._attend.slots
        Hk, d, T = slots.shape.heads, slots.shape.head_dim, self._T
        keys, values = slots.data[layer, 0].data_ptr(), slots.data[layer, 1].data_ptr()
        self._kernels.rotate_and_keep(
            qkv_TN.data_ptr(), cos.data_ptr(), sin.data_ptr(), self._places_T.data_ptr(), slots.capacity, T, self._H, Hk, d,
            self._q.data_ptr(), self._k.data_ptr(), self._v.data_ptr(), keys, values,
        )  # fmt: skip
        a = self._attention
        if a is not None:
            a.keys, a.values, a.scale, a.window = keys, values, scale, window or 0
            if self._kernels.attend(ctypes.byref(a)):
                raise MemoryError("no memory for attention's scores")
        for number, rows in self._long:
            self._attend.piece(number, layer, self._q[rows], self._out[rows], scale=scale, window=window, softcap=None)
        return self._out.view(T, -1)

    def _prepared(self, parts: Sequence[tuple[Part, int]], shared: Shared | None) -> CAttention:
        """The kernel's arguments for parts with their first rows, but for what differs between layers."""
        slots = self._attend.slots
        order: list[int] = []
        groups: list[tuple[int, int, int, int]] = []
        row_of = {p.slot: at for p, at in parts if p.n == 1}
        common = shared.length // LANES * LANES if shared else 0
        for of in shared.groups if shared else tuple((slot,) for slot in row_of):
            for members in (of[i : i + MEMBERS] for i in range(0, len(of), MEMBERS)):
                groups.append((of[0], common if len(of) > 1 else 0, len(order), len(members)))
                order += [row_of[slot] for slot in members]
        for part, at in parts:
            for i in range(0, part.n if part.n > 1 else 0, TOGETHER):
                n = min(TOGETHER, part.n - i)
                groups.append((part.slot, (part.start + i) // LANES * LANES, len(order), n))
                order += range(at + i, at + i + n)
        slots_T, lengths_T = (torch.zeros(self._T, dtype=torch.int32) for _ in range(2))
        for part, at in parts:
            slots_T[at : at + part.n] = part.slot
            lengths_T[at : at + part.n] = torch.arange(part.start + 1, part.start + part.n + 1)
        numbers = (slots_T, lengths_T, torch.tensor(order, dtype=torch.int32))
        array = (CGroup * len(groups))(*groups)
        self._kept += [*numbers, array]
        return CAttention(
            self._q.data_ptr(), None, None, self._out.data_ptr(), *(n.data_ptr() for n in numbers), ctypes.addressof(array),
            slots.capacity, len(groups), self._H, slots.shape.heads, slots.shape.head_dim, 0, 0.0,
        )  # fmt: skip

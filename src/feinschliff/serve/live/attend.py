"""Attention of one step over the slots: rows that decode, all in one product, and longer pieces of prompts one by one.

Where several conversations begin with the same tokens, those keys and values are multiplied with all their queries at once,
read from the slot of one of them (`Shared`): reading keys and values is what attention costs on a processor.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from feinschliff.nn.precision import exact_dtype
from feinschliff.serve.live.kv import Slots

SCORES = 1 << 23  # at once
FEW = 3  # slots
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


@dataclass(frozen=True, slots=True)
class Part:
    """`n` new tokens of one conversation, after the `start` tokens that its slot already holds."""

    slot: int
    start: int
    n: int


@dataclass(frozen=True, slots=True)
class Shared:
    """The first `length` tokens are the same within each group of decoding slots; every decoding slot is in one group."""

    length: int
    groups: tuple[tuple[int, ...], ...]


class StepAttend:
    """nn.attention.Attend for rows laid out as `parts` are; those of one token come first."""

    def __init__(self, slots: Slots, parts: Sequence[Part], shared: Shared | None = None) -> None:
        self.slots, self.parts, self.shared = slots, parts, shared
        self._heads, self._capacity = slots.shape.heads, slots.capacity
        self._decoding = [p for p in parts if p.n == 1]
        self.pieces = [p for p in parts if p.n > 1]
        if [*self._decoding, *self.pieces] != list(parts):
            raise ValueError("parts of one token come first")
        places_T = torch.cat([torch.arange(p.start, p.start + p.n) for p in parts])
        slots_T = torch.cat([torch.full((p.n,), p.slot) for p in parts])
        heads_TH = slots_T[:, None] * self._heads + torch.arange(self._heads)
        keys = (heads_TH * self._capacity + places_T[:, None]).flatten()
        self._flat = torch.cat([keys, keys + slots.n_slots * self._heads * self._capacity])
        self._shared = [(g[0], _members(sorted(g))) for g in shared.groups] if shared else []
        self._before = shared.length if shared else 0
        if self._decoding:
            self._used = max(p.slot for p in self._decoding) + 1
            self._longest = max(p.start for p in self._decoding) + 1
            self._slots_A = torch.tensor([p.slot for p in self._decoding])
            self._in_order = [p.slot for p in self._decoding] == list(range(self._used))
            last_S = torch.full((self._used,), self._longest - 1)  # a slot that does not decode attends to anything
            last_S[self._slots_A] = torch.tensor([p.start for p in self._decoding])
            self._distance_SL = last_S[:, None] - torch.arange(self._longest)
        self._masks: dict[tuple[int, int | None], Tensor] = {}
        self._biases: dict[int | None, Tensor] = {}

    def __call__(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None, softcap: float | None
    ) -> Tensor:
        """q (H, T, d); k, v (Hk, T, d) → (T, H, d)."""
        d = q.shape[2]
        new = torch.stack([k.transpose(0, 1), v.transpose(0, 1)])
        self.slots.data[layer].view(-1, d).index_copy_(0, self._flat, new.view(-1, d))
        q_THd = q.transpose(0, 1)
        A = len(self._decoding)
        if not self.pieces:
            return self._decode(layer, q_THd, scale, window, softcap)
        out = q.new_empty(q_THd.shape)
        if A:
            out[:A] = self._decode(layer, q_THd[:A], scale, window, softcap)
        row = A
        for number, part in enumerate(self.pieces):
            rows = slice(row, row + part.n)
            self.piece(number, layer, q_THd[rows], out[rows], scale=scale, window=window, softcap=softcap)
            row += part.n
        return out

    def _decode(self, layer: int, q_AHd: Tensor, scale: float, window: int | None, softcap: float | None) -> Tensor:
        _, H, d = q_AHd.shape
        S, Hk, P = self._used, self._heads, self._before
        G = H // Hk
        if self._in_order:
            q_SHd = q_AHd
        else:
            q_SHd = q_AHd.new_zeros(S, H, d)
            q_SHd[self._slots_A] = q_AHd
        q_SKGd = q_SHd.reshape(S, Hk, G, d)
        keys, values = (self.slots.data[layer, i][:S, :, P : self._longest] for i in (0, 1))
        if S <= FEW and not P and softcap is None:  # one call instead of ten; for many rows it is the slower way
            bias = self._decode_bias(window, q_SKGd.dtype)
            few, _ = _flash(q_SKGd, keys, values, 0.0, False, attn_mask=bias, scale=scale)
            few_SHd = few.reshape(S, H, d)
            return few_SHd if self._in_order else few_SHd[self._slots_A]
        keys, values = keys.flatten(0, 1), values.flatten(0, 1)
        scores = q_SKGd.new_empty(S, Hk, G, self._longest, dtype=exact_dtype(q_SKGd.dtype))
        # keys · qᵀ and not q · keysᵀ: with so few queries the other way round takes twice as long
        scores[..., P:] = torch.bmm(keys, q_SKGd.flatten(0, 1).transpose(1, 2)).transpose(1, 2).unflatten(0, (S, Hk))
        for leader, members in self._shared:
            k_KPd = self.slots.data[layer, 0, leader, :, :P]
            q_KRd = q_SKGd[members].transpose(0, 1).reshape(Hk, -1, d)
            scores[members, ..., :P] = (q_KRd @ k_KPd.transpose(1, 2)).view(Hk, -1, G, P).transpose(0, 1).to(scores.dtype)
        p = _weights(scores, scale, softcap, self._decode_mask(window)).to(q_SKGd.dtype)
        out = torch.bmm(p[..., P:].flatten(0, 1), values).view(S, Hk, G, d)
        for leader, members in self._shared:
            p_KRP = p[members, ..., :P].transpose(0, 1).reshape(Hk, -1, P)
            before = p_KRP @ self.slots.data[layer, 1, leader, :, :P]
            out[members] += before.view(Hk, -1, G, d).transpose(0, 1)
        out_SHd = out.view(S, H, d)
        return out_SHd if self._in_order else out_SHd[self._slots_A]

    def _decode_mask(self, window: int | None) -> Tensor:
        key = -1, window
        if key not in self._masks:
            hidden = self._distance_SL < 0
            if window is not None:
                hidden |= self._distance_SL >= window
            self._masks[key] = hidden[:, None, None]
        return self._masks[key]

    def _decode_bias(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """The mask as what is added to scores."""
        if window not in self._biases:
            hidden = self._decode_mask(window)
            self._biases[window] = torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, float("-inf"))
        return self._biases[window]

    def piece(
        self, number: int, layer: int, q_nHd: Tensor, out_nHd: Tensor, *, scale: float, window: int | None, softcap: float | None
    ) -> None:
        """Attention of one of the `pieces`, whose keys and values are in its slot already, into `out_nHd`."""
        part = self.pieces[number]
        n, H, d = q_nHd.shape
        Hk, end = self._heads, part.start + n
        keys, values = (self.slots.data[layer, i, part.slot, :, :end] for i in (0, 1))
        mask = self._piece_mask(number, window)
        step = max(1, SCORES // (H * end))
        for rows in (slice(i, min(n, i + step)) for i in range(0, n, step)):
            q_KRd = q_nHd[rows].unflatten(1, (Hk, H // Hk)).transpose(0, 1).reshape(Hk, -1, d)
            scores = (q_KRd @ keys.transpose(1, 2)).to(exact_dtype(q_nHd.dtype)).view(Hk, -1, H // Hk, end)
            p = _weights(scores, scale, softcap, mask[rows]).to(values.dtype).view(Hk, -1, end)
            out_nHd[rows] = (p @ values).view(Hk, -1, H // Hk, d).transpose(0, 1).flatten(1, 2)

    def _piece_mask(self, number: int, window: int | None) -> Tensor:
        """(n, 1, end), True where a key is after the query or out of its window."""
        key = number, window
        if key not in self._masks:
            part = self.pieces[number]
            distance = torch.arange(part.start, part.start + part.n)[:, None] - torch.arange(part.start + part.n)
            hidden = distance < 0
            if window is not None:
                hidden |= distance >= window
            self._masks[key] = hidden[:, None]
        return self._masks[key]


def _members(slots: list[int]) -> slice | Tensor:
    """How to index them: neighbours as a slice, which copies nothing."""
    if slots[-1] - slots[0] == len(slots) - 1:
        return slice(slots[0], slots[-1] + 1)
    return torch.tensor(slots)


def _weights(scores: Tensor, scale: float, softcap: float | None, hidden: Tensor) -> Tensor:
    """Softmax of what is scaled, capped and masked; `scores` is overwritten."""
    scores.mul_(scale)
    if softcap is not None:
        scores.div_(softcap).tanh_().mul_(softcap)
    return scores.masked_fill_(hidden, float("-inf")).softmax(-1)

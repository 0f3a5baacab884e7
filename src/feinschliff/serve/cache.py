"""Keys and values of what the model has read: one prefix shared by all conversations, and a slot for each one's own part."""
import torch
from torch import Tensor

from feinschliff.nn.attention import TreeAttend
from feinschliff.nn.tree import Packed


class Prefix:
    """Per layer (1, Hk, P, d). Empty until a forward pass with `Prefill` has filled it."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    @property
    def length(self) -> int:
        return self.keys[0].shape[2] if self.keys else 0


class Slots:
    """Own keys and values, per layer (S, Hk, C, d); `lengths_S` says how much of a slot is filled."""

    def __init__(self, n_slots: int) -> None:
        self.lengths_S = torch.zeros(n_slots, dtype=torch.int64)
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def write(self, layer: int, slots_N: Tensor, places_N: Tensor, k_NHd: Tensor, v_NHd: Tensor) -> None:
        """Put the n-th key and value at (slot, place); grows the capacity where needed."""
        if layer == len(self.keys):
            shape = (len(self.lengths_S), k_NHd.shape[1], 0, k_NHd.shape[2])
            self.keys.append(k_NHd.new_zeros(shape))
            self.values.append(v_NHd.new_zeros(shape))
        needed = int(places_N.max()) + 1
        if needed > self.keys[layer].shape[2]:
            extra = -(-needed // 64) * 64 - self.keys[layer].shape[2]
            for cache in (self.keys, self.values):
                cache[layer] = torch.nn.functional.pad(cache[layer], (0, 0, 0, extra))
        self.keys[layer][slots_N, :, places_N] = k_NHd
        self.values[layer][slots_N, :, places_N] = v_NHd


class Prefill:
    """Reads a packed tree of prompts (`packed`), each after the shared prefix, and keeps keys and values per layer."""

    def __init__(self, packed: Packed, prefix: Prefix) -> None:
        self._tree = TreeAttend(packed)
        self._prefix = prefix
        self.keys: list[Tensor] = []  # per layer (T, Hk, d)
        self.values: list[Tensor] = []

    def __call__(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None, softcap: float | None
    ) -> Tensor:
        self.keys.append(k.transpose(0, 1).contiguous())
        self.values.append(v.transpose(0, 1).contiguous())
        P = self._prefix.length
        if P:
            k, v = torch.cat([self._prefix.keys[layer][0], k], 1), torch.cat([self._prefix.values[layer][0], v], 1)
        return self._tree(layer, q, k, v, scale=scale, window=window, softcap=softcap, before=P)


class Decode:
    """One new token for each of the active slots; positions are those of the new tokens."""

    def __init__(self, slots: Slots, active_A: Tensor, prefix: Prefix) -> None:
        self._slots, self._active_A, self._prefix = slots, active_A, prefix
        lengths_A = slots.lengths_S[active_A] + 1
        self._longest = int(lengths_A.max())
        self._distance_AL = (lengths_A - 1)[:, None] - torch.arange(self._longest)[None]  # < 0: not filled

    def __call__(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None, softcap: float | None
    ) -> Tensor:
        slots, active_A, prefix = self._slots, self._active_A, self._prefix
        slots.write(layer, active_A, slots.lengths_S[active_A], k.transpose(0, 1), v.transpose(0, 1))
        H, A, d = q.shape
        Hk = k.shape[0]
        own_k = slots.keys[layer][active_A, :, : self._longest]
        own_v = slots.values[layer][active_A, :, : self._longest]
        q_AKGd = q.transpose(0, 1).reshape(A, Hk, H // Hk, d)
        hidden = self._distance_AL < 0
        if window is not None:
            hidden = hidden | (self._distance_AL >= window)
        scores = _cap((q_AKGd @ own_k.transpose(2, 3)).float() * scale, softcap)
        scores = scores.masked_fill(hidden[:, None, None], float("-inf"))
        P = prefix.length
        if not P:
            return (scores.softmax(-1).to(v.dtype) @ own_v).reshape(A, H, d)
        # All conversations ask the one shared prefix: queries become rows of a single product per key head.
        q_KRd = q_AKGd.permute(1, 0, 2, 3).reshape(Hk, A * (H // Hk), d)
        shared = _cap((q_KRd @ prefix.keys[layer][0].transpose(1, 2)).float() * scale, softcap)
        shared = shared.view(Hk, A, H // Hk, P).permute(1, 0, 2, 3)
        p = torch.cat([shared, scores], -1).softmax(-1).to(v.dtype)
        p_KRP = p[..., :P].permute(1, 0, 2, 3).reshape(Hk, A * (H // Hk), P)
        out = (p_KRP @ prefix.values[layer][0]).view(Hk, A, H // Hk, d).permute(1, 0, 2, 3)
        return (out + p[..., P:] @ own_v).reshape(A, H, d)


def _cap(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)

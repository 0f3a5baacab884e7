"""Attention over a prefix tree through FlexAttention (Dong et al. 2024, arXiv 2412.05496): one fused kernel on GPUs.

Who sees whom is a function of three numbers a key: its packed row, the first row behind all that can see it, and its position
along the path (`nn.blocks.Keys`). The kernel evaluates it only in tiles that the block mask calls partial; that
mask is made from the tiles' smallest and largest numbers, so nothing of the size (tokens × tokens) exists.
"""
from collections.abc import Callable
from functools import cache
from typing import cast

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from feinschliff.nn.attention import TreeAttend
from feinschliff.nn.blocks import Keys
from feinschliff.nn.tree import Packed

NARROWEST = 16  # width of a head that the kernels take
TILE = 128  # queries, and keys, that the kernel takes or skips together
Flex = Callable[..., Tensor]  # torch's flex_attention, compiled or not
Seen = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # (batch, head, query, key) → bool: torch's mask_mod
ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


@cache
def compiled() -> Flex:
    """Generated for the first tree, and for trees of all lengths at the second (and kept in torch's cache folder).

    Not for all at once (`dynamic=True`): then scale and cap become variables too, which torch 2.13 cannot generate code for.
    """
    return cast(Flex, torch.compile(flex_attention))


class FlexAttend:
    """Attention for one packed tree (on the CPU); used by every layer of a forward pass and its backward. See `nn.attention.Attend`."""

    def __init__(self, packed: Packed, flex: Flex = flex_attention) -> None:
        self.packed = packed
        self._flex = flex
        self._by_blocks = TreeAttend(packed)  # for narrower heads, which only models of tests have
        self._masks: dict[tuple[int | None, int, torch.device], BlockMask] = {}

    def __call__(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None, softcap: float | None, before: int = 0
    ) -> Tensor:
        """The first `before` keys and values stand before the tree, on every path."""
        if q.shape[-1] < NARROWEST:
            return self._by_blocks(layer, q, k, v, scale=scale, window=window, softcap=softcap, before=before)
        if window is not None and before + self.packed.longest_path <= window:
            window = None
        of = window, before, q.device
        if of not in self._masks:  # two kinds of layers at most
            self._masks[of] = block_mask(self.packed, *of)
        out = self._flex(
            q[None], k[None], v[None], score_mod=None if softcap is None else _capped(softcap),
            block_mask=self._masks[of], scale=scale, enable_gqa=q.shape[0] != k.shape[0],
        )  # fmt: skip
        return out[0].transpose(0, 1)


def block_mask(packed: Packed, window: int | None, before: int, device: torch.device) -> BlockMask:
    """Which tiles of keys a tile of queries meets, and in which of them every query sees every key."""
    keys = Keys.of(packed, before)
    full, some = _tiles(keys, window, before, len(packed))
    parts = [x.to(device) for tiles in (some & ~full, full) for x in _listed(tiles)]
    seen = _seen(keys.reach_K.to(device), keys.position_K.to(device), window, before)
    lengths = len(packed), before + len(packed)
    return BlockMask.from_kv_blocks(*parts, BLOCK_SIZE=TILE, mask_mod=seen, seq_lengths=lengths)


def _seen(reach_K: Tensor, position_K: Tensor, window: int | None, before: int) -> Seen:
    def along_the_path(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key - before <= query) & (reach_K[key] > query)

    def near_on_the_path(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        assert window is not None
        return along_the_path(batch, head, query, key) & (position_K[key] > position_K[query + before] - window)

    return along_the_path if window is None else near_on_the_path


def _tiles(keys: Keys, window: int | None, before: int, T: int) -> tuple[Tensor, Tensor]:
    """(tiles of queries, tiles of keys) bool: every pair is seen; some pair may be."""
    first_k, last_k = _extremes(keys.row_K)
    least_reach, most_reach = _extremes(keys.reach_K)
    nearest, farthest = _extremes(keys.position_K)
    first_q, last_q = (x[:, None] for x in _extremes(torch.arange(T, dtype=torch.int32)))
    lowest_q, highest_q = (x[:, None] for x in _extremes(keys.position_K[before:]))
    some = (first_k <= last_q) & (most_reach > first_q)
    full = (last_k <= first_q) & (least_reach > last_q)
    if window is not None:
        some &= farthest > lowest_q - window
        full &= nearest > highest_q - window
    # A tile that the end of the rows cuts off is partial, as torch has it too: what is not there is not seen.
    full[:, len(keys.row_K) // TILE :] = False
    full[T // TILE :] = False
    return full, some


def _extremes(x: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest of each tile."""
    tiles = x.split(TILE)
    return torch.stack([t.min() for t in tiles]), torch.stack([t.max() for t in tiles])


def _listed(tiles_QK: Tensor) -> tuple[Tensor, Tensor]:
    """How many tiles of keys each tile of queries has, and their numbers first in its row; (1, 1, …), int32."""
    order = torch.argsort(tiles_QK.int(), dim=-1, descending=True, stable=True)
    return tiles_QK.sum(-1, dtype=torch.int32)[None, None], order.to(torch.int32)[None, None]


def _capped(softcap: float) -> ScoreMod:
    def cap(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return cap

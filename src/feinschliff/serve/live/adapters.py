"""Adapters that stand ready beside the base model, and their stacks for a step."""
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from feinschliff.core.errors import ModelUnavailable
from feinschliff.nn import adapter
from feinschliff.nn.adapter import Matrices
from feinschliff.nn.model import Decoder
from feinschliff.serve.live.products import LiveProduct, LowRank, Stacked

Stacks = tuple[Stacked | None, ...]
STACKS = 8  # remembered


@dataclass(frozen=True, slots=True)
class LiveAdapter:
    """`parts` has an entry per product of the base. `version` changes when the folder's weights do."""

    folder: str
    version: int
    parts: tuple[LowRank | None, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a projection's adapter goes: product, rows of its output."""

    product: int
    rows: slice


def places(decoder: Decoder) -> dict[str, Place]:
    """Of all projections, by the names that adapters are saved under."""
    numbers = {id(p): i for i, p in enumerate(decoder.products())}
    found: dict[str, Place] = {}
    for name, projection in decoder.projections():
        product = projection.product
        member = next(i for i, m in enumerate(product.members) if m is projection)
        found[name] = Place(numbers[id(product)], product.rows[member])
    return found


class Adapters:
    """Loads adapters on demand and keeps the `limit` most recently used; those in work are held by their conversations."""

    def __init__(
        self, places: Mapping[str, Place], products: Sequence[LiveProduct], dtype: torch.dtype, limit: int
    ) -> None:
        self._places, self._products, self._dtype, self._limit = places, products, dtype, limit
        self._ready: OrderedDict[str, LiveAdapter] = OrderedDict()
        self._stacks: OrderedDict[tuple[tuple[str, int], ...], Stacks] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ready)

    def get(self, folder: str) -> LiveAdapter:
        """The adapter of a PEFT folder. Raises ModelUnavailable."""
        version = _version(Path(folder))
        known = self._ready.get(folder)
        if known is None or known.version != version:
            known = self._ready[folder] = self._load(folder, version)
        self._ready.move_to_end(folder)
        while len(self._ready) > self._limit:
            self._ready.popitem(last=False)
        return known

    def stacks(self, present: Sequence[LiveAdapter]) -> Stacks:
        """All of `present`, product by product; remembered, because the same ones decode together for many steps."""
        if not present:
            return ()
        key = tuple((a.folder, a.version) for a in present)
        if key not in self._stacks:
            self._stacks[key] = tuple(Stacked.of(parts) for parts in zip(*(a.parts for a in present), strict=True))
            while len(self._stacks) > STACKS:
                self._stacks.popitem(last=False)
        self._stacks.move_to_end(key)
        return self._stacks[key]

    def _load(self, folder: str, version: int) -> LiveAdapter:
        pairs, scale = adapter.read(Path(folder))
        if unknown := sorted(set(pairs) - set(self._places)):
            raise ModelUnavailable(
                f"The adapter has layers that this base model lacks: {unknown[0]} and {len(unknown) - 1} more.",
                hint="Use the base model that the adapter was trained on (base_model_name_or_path in adapter_config.json).",
            )
        found: list[list[LowRank]] = [[] for _ in self._products]
        for name, of in pairs.items():
            place = self._places[name]
            found[place.product].append(self._widened(place, of, scale))
        parts = tuple(_joined(f) for f in found)
        return LiveAdapter(folder, version, parts)

    def _widened(self, place: Place, of: Matrices, scale: float) -> LowRank:
        """A projection's adapter in the product that it is a part of."""
        product, rows = self._products[place.product], place.rows
        b_NR = torch.zeros(product.n_out, of.a.shape[0])
        b_NR[rows] = of.b.float() * scale
        stretch_N = None
        if of.magnitude is not None:
            norms_N = product.row_norms(b_NR, of.a.float())[rows]
            stretch_N = torch.zeros(product.n_out)
            stretch_N[rows] = torch.where(norms_N > 0, of.magnitude / norms_N, 0.0) - 1.0
        return LowRank(of.a.to(self._dtype), b_NR.to(self._dtype), None if stretch_N is None else stretch_N.to(self._dtype))


def _joined(parts: Sequence[LowRank]) -> LowRank | None:
    """The adapters of the projections that are one product."""
    if not parts:
        return None
    stretches = [p.stretch_N for p in parts if p.stretch_N is not None]
    total = torch.stack(stretches).sum(0) if stretches else None  # each is zero in the others' rows
    return LowRank(torch.cat([p.a_RK for p in parts]), torch.cat([p.b_NR for p in parts], 1), total)


def _version(folder: Path) -> int:
    try:
        return (folder / "adapter_model.safetensors").stat().st_mtime_ns
    except FileNotFoundError as error:
        raise ModelUnavailable(
            f"{folder} is not an adapter folder: adapter_model.safetensors is missing.",
            hint="Name the folder that a training run or PEFT's save_pretrained wrote.",
        ) from error

"""Adapters that stand ready beside the base model, and their stacks for a step."""
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from feinschliff.core.errors import ModelUnavailable
from feinschliff.nn import adapter
from feinschliff.nn.linear import Product
from feinschliff.nn.model import Decoder
from feinschliff.serve.live.products import LowRank, Stacked

Stacks = tuple[Stacked | None, ...]


@dataclass(frozen=True, slots=True)
class LiveAdapter:
    """`parts` has an entry per product of the base. `version` changes when the folder's weights do."""

    folder: str
    version: int
    parts: tuple[LowRank | None, ...]

    @property
    def n_bytes(self) -> int:
        return sum(x.numel() * x.element_size() for p in self.parts if p is not None for x in (p.a_RK, p.b_RN))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a projection's adapter goes: product, rows of its output."""

    product: int
    rows: slice


class Adapters:
    """Loads adapters on demand and keeps the `limit` most recently used; those in work are held by their conversations."""

    def __init__(self, decoder: Decoder, limit: int) -> None:
        self._limit = limit
        self._dtype = decoder.dtype
        products = decoder.products()
        self._widths = [p.extended_NE.shape[0] for p in products]
        self._places = {n: _place(p.product, products, p) for n, p in decoder.projections()}
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
            while len(self._stacks) > 4:
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
        if any(of.magnitude is not None for of in pairs.values()):
            raise ModelUnavailable(
                f"{folder} is a DoRA adapter, which the live engine does not serve yet.",
                hint="Merge it into its base model and serve the merged folder.",
            )
        found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self._widths]
        for name, (a, b, _) in pairs.items():
            place = self._places[name]
            wide = b.new_zeros(a.shape[0], self._widths[place.product])
            wide[:, place.rows] = b.t() * scale
            found[place.product].append((a.to(self._dtype), wide.to(self._dtype)))
        parts = (LowRank(torch.cat([a for a, _ in f]), torch.cat([b for _, b in f])) if f else None for f in found)
        return LiveAdapter(folder, version, tuple(parts))


def _place(product: Product, products: Sequence[Product], projection: object) -> _Place:
    number = next(i for i, p in enumerate(products) if p is product)
    member = next(i for i, m in enumerate(product.members) if m is projection)
    return _Place(number, product.rows[member])


def _version(folder: Path) -> int:
    try:
        return (folder / "adapter_model.safetensors").stat().st_mtime_ns
    except FileNotFoundError as error:
        raise ModelUnavailable(
            f"{folder} is not an adapter folder: adapter_model.safetensors is missing.",
            hint="Name the folder that a training run or PEFT's save_pretrained wrote.",
        ) from error

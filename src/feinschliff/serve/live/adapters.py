"""Adapters that stand ready beside the base model, and their stacks for a step."""
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from feinschliff.core.errors import ModelUnavailable
from feinschliff.nn import adapter
from feinschliff.nn.adapter import Matrices
from feinschliff.nn.model import Decoder
from feinschliff.serve.live.products import LowRank

STACKS = 8  # remembered


S = TypeVar("S")  # what several adapters add to one product


class Base(Protocol):
    """A product that adapters are put beside."""

    n_out: int

    def row_norms(self, b_NR: Tensor, a_RK: Tensor) -> Tensor:
        """Lengths (N,) of the rows of W + B·A in float32."""
        ...


class RowsOf(Protocol[S]):
    """What the products of a step ask about its rows."""

    def use(self, stacks: Sequence[S | None], owner_T: Tensor) -> None: ...


@dataclass(frozen=True, slots=True)
class Way(Generic[S]):
    """One way of computing with adapters: how they are put together beside a product, and where a step's rows are told."""

    stack: Callable[[Sequence[LowRank | None]], S | None]
    rows: RowsOf[S]


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


class Adapters(Generic[S]):
    """Loads adapters on demand and keeps the `limit` most recently used; those in work are held by their conversations."""

    def __init__(
        self, places: Mapping[str, Place], products: Sequence[Base], way: Way[S], dtype: torch.dtype, limit: int
    ) -> None:
        self._places, self._products, self._way, self._dtype, self._limit = places, products, way, dtype, limit
        self._ready: OrderedDict[str, LiveAdapter] = OrderedDict()
        self._stacks: OrderedDict[tuple[tuple[str, int], ...], tuple[S | None, ...]] = OrderedDict()

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

    def use(self, owners: Sequence[LiveAdapter | None]) -> None:
        """Tell whose adapter each row of the coming step uses."""
        present = sorted({id(o): o for o in owners if o is not None}.values(), key=lambda a: (a.folder, a.version))
        place = {id(a): i for i, a in enumerate(present)}
        self._way.rows.use(self._stacks_of(present), torch.tensor([-1 if o is None else place[id(o)] for o in owners]))

    def _stacks_of(self, present: Sequence[LiveAdapter]) -> tuple[S | None, ...]:
        """All of `present`, product by product; remembered, because the same ones decode together for many steps."""
        if not present:
            return ()
        key = tuple((a.folder, a.version) for a in present)
        if key not in self._stacks:
            self._stacks[key] = tuple(self._way.stack(parts) for parts in zip(*(a.parts for a in present), strict=True))
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

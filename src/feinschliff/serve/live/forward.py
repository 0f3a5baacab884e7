"""Forward passes of the live engine: a lean one for Llama-shaped models, transformers' own for all others.

The lean one is chosen by numbers, not by names: the fused layers of nn.fused were, and the whole pass has to agree with them
on a few tokens before it is used.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feinschliff.core.errors import ModelUnavailable
from feinschliff.nn.frozen import Dense
from feinschliff.nn.fused import FusedLayer, rotate
from feinschliff.nn.linear import Projection
from feinschliff.nn.model import Decoder, load
from feinschliff.nn.norm import RmsNorm, normalise
from feinschliff.serve.live.adapters import Place, places
from feinschliff.serve.live.attend import Part, StepAttend
from feinschliff.serve.live.kv import KvShape, Slots
from feinschliff.serve.live.products import LiveLinear, LiveProduct, Rows

PROBE = 8  # tokens


class Forward(Protocol):
    """(T,) ids and positions → (T, D) states after the final norm; what adapters the rows use is set in Rows before."""

    def __call__(self, tokens_T: Tensor, positions_T: Tensor, attend: StepAttend) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a layer asked of its attention."""

    heads: int
    head_dim: int
    scale: float
    window: int | None
    softcap: float | None


def look(decoder: Decoder) -> tuple[KvShape, list[_Asked]]:
    """What the layers leave behind and ask for, seen in a pass over one token. Raises ModelUnavailable for mixed shapes."""
    asked: dict[int, _Asked] = {}

    def attend(
        layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None, softcap: float | None
    ) -> Tensor:
        asked[layer] = _Asked(k.shape[0], k.shape[2], scale, window, softcap)
        return v.repeat_interleave(q.shape[0] // v.shape[0], 0).transpose(0, 1)

    decoder.hidden(torch.tensor([0]), torch.tensor([0]), attend)
    layers = [asked[i] for i in sorted(asked)]
    if not layers or sorted(asked) != list(range(len(layers))) or len({(a.heads, a.head_dim) for a in layers}) > 1:
        raise ModelUnavailable(
            "This model's layers do not all attend in the same way, which the live engine needs.",
            hint="Serve it with vLLM, or use the batch engine.",
        )
    return KvShape(len(layers), layers[0].heads, layers[0].head_dim, decoder.dtype), layers


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded base model. Of `decoder`, head, type and soft cap are still good; its own layers are not to be called."""

    forward: Forward
    decoder: Decoder
    places: Mapping[str, Place]  # where adapters go, by the names they are saved under
    products: Sequence[LiveProduct]
    rows: Rows
    shape: KvShape
    lean: bool


@torch.inference_mode()
def open_model(folder: Path, dtype: torch.dtype) -> Opened:
    """Load a model folder and choose its forward pass. Raises ModelUnavailable."""
    rows = Rows()
    decoder = load(folder, dtype=dtype, trainable=False)
    shape, asked = look(decoder)
    if any(isinstance(m, FusedLayer) for m in decoder.body.modules()):
        products = [LiveProduct(p, i, rows) for i, p in enumerate(decoder.products())]
        lean = LeanForward(decoder, asked, products)
        wanted, got = (_probe(f, shape) for f in (_Whole(decoder), lean))
        if torch.allclose(got, wanted, rtol=0.05, atol=0.02 * float(wanted.abs().max())):
            placed = places(decoder)
            for product in decoder.products():  # LiveProducts have their own layout of it
                beside_NR = product.frozen.beside_NR
                product.frozen = Dense(beside_NR.new_empty(len(beside_NR), 0))
            return Opened(lean, decoder, placed, products, rows, shape, lean=True)
        decoder = load(folder, dtype=dtype, trainable=False, fast=False)
    products = [LiveProduct(p, i, rows) for i, p in enumerate(decoder.products())]
    placed = places(decoder)
    for name, place in placed.items():
        parent, _, leaf = name.removeprefix("model.").rpartition(".")
        setattr(decoder.body.get_submodule(parent), leaf, LiveLinear(products[place.product], decoder.dtype))
    return Opened(_Whole(decoder), decoder, placed, products, rows, shape, lean=False)


@dataclass(frozen=True, slots=True)
class _Whole:
    """The decoder's own pass."""

    decoder: Decoder

    def __call__(self, tokens_T: Tensor, positions_T: Tensor, attend: StepAttend) -> Tensor:
        return self.decoder.hidden(tokens_T, positions_T, attend)


def _probe(forward: Forward, shape: KvShape) -> Tensor:
    slots = Slots(shape)
    slots.fit(1, PROBE)
    tokens_T = torch.arange(1, PROBE + 1)
    return forward(tokens_T, torch.arange(PROBE), StepAttend(slots, [Part(0, 0, PROBE)]))


@dataclass(frozen=True, slots=True)
class _Layer:
    """The parts of one layer; `before` and `between` are the norms ahead of attention and ahead of the gated MLP."""

    before: RmsNorm
    qkv: LiveProduct
    out: LiveProduct
    between: RmsNorm
    gate_up: LiveProduct
    down: LiveProduct
    asked: _Asked


class LeanForward:
    """Embedding, layers and final norm with nothing in between that decoding does not need."""

    def __init__(self, decoder: Decoder, asked: list[_Asked], live: Sequence[LiveProduct]) -> None:
        body = decoder.body
        self._dtype = decoder.dtype
        products = {id(p): product for p, product in zip(decoder.products(), live, strict=True)}

        def product(module: nn.Module, *names: str) -> LiveProduct:
            name = next(n for n in names if hasattr(module, n))
            projection = module.get_submodule(name)
            assert isinstance(projection, Projection)
            return products[id(projection.product)]

        self._layers: list[_Layer] = []
        for layer, one in zip(body.get_submodule("layers").children(), asked, strict=True):
            attention, mlp = layer.get_submodule("self_attn"), layer.get_submodule("mlp")
            before, between = layer.get_submodule("input_layernorm"), layer.get_submodule("post_attention_layernorm")
            assert isinstance(before, RmsNorm)
            assert isinstance(between, RmsNorm)
            self._layers.append(
                _Layer(
                    before, product(attention, "qkv_proj", "q_proj"), product(attention, "o_proj"),
                    between, product(mlp, "gate_up_proj", "gate_proj"), product(mlp, "down_proj"), one,
                )
            )  # fmt: skip
        self._embed, self._norm = body.get_submodule("embed_tokens"), body.get_submodule("norm")
        self._rotary = body.get_submodule("rotary_emb")

    def __call__(self, tokens_T: Tensor, positions_T: Tensor, attend: StepAttend) -> Tensor:
        x_TD: Tensor = self._embed(tokens_T)
        cos, sin = self._rotary(x_TD[None], positions_T[None])
        cos, sin = (e[0, :, None, : e.shape[-1] // 2] for e in (cos, sin))
        for number, layer in enumerate(self._layers):
            x_TD = x_TD + self._attended(number, layer, x_TD, cos, sin, attend)
            gate, up = layer.gate_up(self._normed(x_TD, layer.between)).chunk(2, 1)
            x_TD += layer.down(F.silu(gate).mul_(up))
        out_TD: Tensor = self._norm(x_TD)
        return out_TD

    def _attended(
        self, number: int, layer: _Layer, x_TD: Tensor, cos: Tensor, sin: Tensor, attend: StepAttend
    ) -> Tensor:
        asked = layer.asked
        qkv = layer.qkv(self._normed(x_TD, layer.before)).view(x_TD.shape[0], -1, asked.head_dim)
        n_values = qkv.shape[1] - asked.heads
        n_queries = n_values - asked.heads
        rotated = rotate(qkv[:, :n_values], cos, sin)
        q, k, v = rotated[:, :n_queries], rotated[:, n_queries:], qkv[:, n_values:]
        heads = attend(
            number, q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1),
            scale=asked.scale, window=asked.window, softcap=asked.softcap,
        )  # fmt: skip
        return layer.out(heads.flatten(1))

    def _normed(self, x_TD: Tensor, norm: RmsNorm) -> Tensor:
        return normalise(x_TD, norm.weight, norm.eps)[0].to(self._dtype)

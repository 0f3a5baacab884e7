"""Forward passes of the live engine: a lean one for Llama-shaped models, transformers' own for all others.

The lean one is chosen by numbers, not by names: the fused layers of nn.fused were, and the whole pass has to agree with them
on a few tokens before it is used. It goes through the kernels (native/) where this machine can have them.
"""
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feinschliff.core.errors import ModelUnavailable
from feinschliff.nn.frozen import Dense
from feinschliff.nn.fused import FusedLayer, rotate
from feinschliff.nn.model import Decoder, load
from feinschliff.nn.norm import RmsNorm, normalise
from feinschliff.serve.live.adapters import Adapters, Way, places
from feinschliff.serve.live.attend import Part, StepAttend
from feinschliff.serve.live.kv import KvShape, Slots
from feinschliff.serve.live.layers import Asked, Layer, Layers
from feinschliff.serve.live.native.open import native
from feinschliff.serve.live.native.products import Beside
from feinschliff.serve.live.products import LiveLinear, LiveProduct, Multiply, Rows, Stacked, multiply_by

PROBE = 12  # tokens
CLOSE = 0.1


class Forward(Protocol):
    """(T,) ids and positions → (T, D) states after the final norm; what adapters the rows use is set in Rows before."""

    def __call__(self, tokens_T: Tensor, positions_T: Tensor, attend: StepAttend) -> Tensor: ...


def look(decoder: Decoder) -> tuple[KvShape, list[Asked]]:
    """What the layers leave behind and ask for, seen in a pass over one token. Raises ModelUnavailable for mixed shapes."""
    asked: dict[int, Asked] = {}

    def attend(
        layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None, softcap: float | None
    ) -> Tensor:
        asked[layer] = Asked(k.shape[0], k.shape[2], scale, window, softcap)
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
    """A loaded base model. `head` makes logits of `n_vocab` tokens from states in `dtype`, before they are capped."""

    forward: Forward
    head: Multiply
    dtype: torch.dtype
    n_vocab: int
    softcap: float | None
    adapters: Adapters[Stacked] | Adapters[Beside]
    shape: KvShape
    weights_bytes: int
    lean: bool
    native: bool  # through the kernels


@torch.inference_mode()
def open_model(folder: Path, dtype: torch.dtype, n_adapters: int) -> Opened:
    """Load a model folder and choose its forward pass; up to `n_adapters` are kept ready. Raises ModelUnavailable."""
    decoder = load(folder, dtype=dtype, trainable=False)
    shape, asked = look(decoder)
    if any(isinstance(m, FusedLayer) for m in decoder.body.modules()):
        opened = _lean(decoder, shape, asked, n_adapters)
        if opened is not None:
            return opened
        decoder = load(folder, dtype=dtype, trainable=False, fast=False)
    rows = Rows()
    products = [LiveProduct(p, i, rows) for i, p in enumerate(decoder.products())]
    placed = places(decoder)
    for name, place in placed.items():
        parent, _, leaf = name.removeprefix("model.").rpartition(".")
        setattr(decoder.body.get_submodule(parent), leaf, LiveLinear(products[place.product], decoder.dtype))
    adapters = Adapters(placed, products, Way(Stacked.of, rows), dtype, n_adapters)
    return _opened(decoder, shape, _Whole(decoder), multiply_by(decoder.head), adapters)


def _lean(decoder: Decoder, shape: KvShape, asked: list[Asked], n_adapters: int) -> Opened | None:
    """Through the kernels, or else through torch's operators; None where neither agrees with the decoder's own pass."""
    tokens_T = torch.linspace(0, decoder.head.shape[0] - 1, PROBE + 2).long()[1:-1]  # the first and last may be markup
    wanted = _probe(_Whole(decoder), shape, tokens_T)
    found = native(decoder, asked)
    if found is not None and _agrees(_probe(found.forward, shape, tokens_T), wanted):
        adapters = Adapters(places(decoder), found.products, Way(Beside.of, found.rows), decoder.dtype, n_adapters)
        return _opened(decoder, shape, found.forward, found.head, adapters, lean=True, native=True)
    rows = Rows()
    products = [LiveProduct(p, i, rows) for i, p in enumerate(decoder.products())]
    lean = LeanForward(Layers.of(decoder, asked, products), decoder.dtype)
    if not _agrees(_probe(lean, shape, tokens_T), wanted):
        return None
    adapters = Adapters(places(decoder), products, Way(Stacked.of, rows), decoder.dtype, n_adapters)
    return _opened(decoder, shape, lean, multiply_by(decoder.head), adapters, lean=True)


def _opened(
    decoder: Decoder, shape: KvShape, forward: Forward, head: Multiply, adapters: Adapters[Stacked] | Adapters[Beside], *,
    lean: bool = False, native: bool = False,
) -> Opened:  # fmt: skip
    """Lets go of the weights that are held in a layout of their own; what is left of the decoder is not to be called."""
    n_vocab, products = decoder.head.shape[0], decoder.products()
    if native:
        _narrow(decoder.body.get_submodule("embed_tokens"))
    rest = sum(p.numel() * p.element_size() for p in decoder.body.parameters())
    laid_out = sum(p.frozen.extended()[:, : p.n_in].numel() for p in products) + decoder.head.numel()
    if lean:
        for product in products:
            beside_NR = product.frozen.beside_NR
            product.frozen = Dense(beside_NR.new_empty(len(beside_NR), 0))
        decoder.head = decoder.head.new_empty(0)
    weights_bytes = rest + laid_out * decoder.dtype.itemsize
    return Opened(
        forward, head, decoder.dtype, n_vocab, decoder.softcap, adapters, shape, weights_bytes, lean=lean, native=native
    )  # fmt: skip


def _narrow(embed: nn.Module) -> None:
    """Embeddings that were stored in bfloat16 are held so: half the memory, the same numbers."""
    if type(embed) is not nn.Embedding:  # others scale what they look up
        return
    narrow_VD = embed.weight.to(torch.bfloat16)
    if torch.equal(narrow_VD.to(embed.weight.dtype), embed.weight):
        embed.weight = nn.Parameter(narrow_VD, requires_grad=False)


def _agrees(got_TD: Tensor, wanted_TD: Tensor) -> bool:
    """All but one state are within a tenth: in bfloat16 a single one can be far off in either, its rounding grown by the layers."""
    error_T = (got_TD - wanted_TD).norm(dim=1) / wanted_TD.norm(dim=1)
    return bool(error_T.sort().values[-2] < CLOSE)


@dataclass(frozen=True, slots=True)
class _Whole:
    """The decoder's own pass."""

    decoder: Decoder

    def __call__(self, tokens_T: Tensor, positions_T: Tensor, attend: StepAttend) -> Tensor:
        return self.decoder.hidden(tokens_T, positions_T, attend)


def _probe(forward: Forward, shape: KvShape, tokens_T: Tensor) -> Tensor:
    """States of a few tokens, the last one as in decoding."""
    slots = Slots(shape)
    slots.fit(1, PROBE)
    positions_T, n = torch.arange(PROBE), PROBE - 1
    read = forward(tokens_T[:n], positions_T[:n], StepAttend(slots, [Part(0, 0, n)]))
    return torch.cat([read, forward(tokens_T[n:], positions_T[n:], StepAttend(slots, [Part(0, n, 1)]))]).float()


class LeanForward:
    """Embedding, layers and final norm with nothing in between that decoding does not need."""

    def __init__(self, layers: Layers[LiveProduct], dtype: torch.dtype) -> None:
        self._layers, self._dtype = layers, dtype

    def __call__(self, tokens_T: Tensor, positions_T: Tensor, attend: StepAttend) -> Tensor:
        x_TD, cos, sin = self._layers.begin(tokens_T, positions_T)
        cos, sin = cos[:, None], sin[:, None]
        for number, layer in enumerate(self._layers.each):
            x_TD = x_TD + self._attended(number, layer, x_TD, cos, sin, attend)
            gate, up = layer.gate_up(self._normed(x_TD, layer.between)).chunk(2, 1)
            x_TD += layer.down(F.silu(gate).mul_(up))
        out_TD: Tensor = self._layers.norm(x_TD)
        return out_TD

    def _attended(
        self, number: int, layer: Layer[LiveProduct], x_TD: Tensor, cos: Tensor, sin: Tensor, attend: StepAttend
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

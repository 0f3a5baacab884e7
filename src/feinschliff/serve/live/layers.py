"""The parts of a Llama-shaped model, found in a decoder with fused layers, for forward passes of our own."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor, nn

from feinschliff.nn.linear import Projection
from feinschliff.nn.model import Decoder
from feinschliff.nn.norm import RmsNorm

P = TypeVar("P")  # what a product is for the pass


@dataclass(frozen=True, slots=True)
class Asked:
    """What a layer asked of its attention."""

    heads: int
    head_dim: int
    scale: float
    window: int | None
    softcap: float | None


@dataclass(frozen=True, slots=True)
class Layer(Generic[P]):
    """`before` and `between` are the norms ahead of attention and ahead of the gated MLP."""

    before: RmsNorm
    qkv: P
    out: P
    between: RmsNorm
    gate_up: P
    down: P
    asked: Asked


@dataclass(frozen=True, slots=True)
class Layers(Generic[P]):
    """`embed`, `rotary` and `norm` are the model's own."""

    embed: nn.Module
    rotary: nn.Module
    each: tuple[Layer[P], ...]
    norm: RmsNorm

    @classmethod
    def of(cls, decoder: Decoder, asked: Sequence[Asked], live: Sequence[P]) -> "Layers[P]":
        """`live` are in the order of the decoder's products."""
        body = decoder.body
        products = {id(p): product for p, product in zip(decoder.products(), live, strict=True)}

        def product(module: nn.Module, *names: str) -> P:
            name = next(n for n in names if hasattr(module, n))
            projection = module.get_submodule(name)
            assert isinstance(projection, Projection)
            return products[id(projection.product)]

        each: list[Layer[P]] = []
        for layer, one in zip(body.get_submodule("layers").children(), asked, strict=True):
            attention, mlp = layer.get_submodule("self_attn"), layer.get_submodule("mlp")
            each.append(
                Layer(
                    _norm(layer, "input_layernorm"), product(attention, "qkv_proj", "q_proj"), product(attention, "o_proj"),
                    _norm(layer, "post_attention_layernorm"), product(mlp, "gate_up_proj", "gate_proj"),
                    product(mlp, "down_proj"), one,
                )
            )  # fmt: skip
        return cls(body.get_submodule("embed_tokens"), body.get_submodule("rotary_emb"), tuple(each), _norm(body, "norm"))

    def begin(self, tokens_T: Tensor, positions_T: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """States (T, D), and the first half of the cosines and sines (T, h) of the positions; they repeat."""
        x_TD: Tensor = self.embed(tokens_T)
        cos, sin = self.rotary(x_TD[None], positions_T[None])
        half = cos.shape[-1] // 2
        return x_TD, cos[0, :, :half], sin[0, :, :half]


def _norm(module: nn.Module, name: str) -> RmsNorm:
    norm = module.get_submodule(name)
    assert isinstance(norm, RmsNorm)
    return norm


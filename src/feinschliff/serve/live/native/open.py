"""The kernels for a loaded model, where they are there and know its shapes."""
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from feinschliff.nn.model import Decoder
from feinschliff.serve.live.layers import Asked, Layers
from feinschliff.serve.live.native.forward import NativeForward, fits
from feinschliff.serve.live.native.kernels import loaded
from feinschliff.serve.live.native.products import NativeProduct, NativeRows, head_of
from feinschliff.serve.live.products import Multiply


@dataclass(frozen=True, slots=True)
class Native:
    """What a model is computed with."""

    forward: NativeForward
    head: Multiply
    products: Sequence[NativeProduct]
    rows: NativeRows


def native(decoder: Decoder, asked: Sequence[Asked]) -> Native | None:
    """For a decoder of fused layers; None where the kernels are not to be had or do not know its shapes."""
    kernels = loaded() if decoder.dtype == torch.bfloat16 else None
    if kernels is None:
        return None
    products = [NativeProduct(p, i) for i, p in enumerate(decoder.products())]
    layers = Layers.of(decoder, asked, products)
    if not fits(layers):
        return None
    rows = NativeRows(kernels)
    return Native(NativeForward(kernels, layers, rows), head_of(kernels, decoder.head), products, rows)

"""Put our linear layers and norms in the place of a transformers model's own."""
import torch
from torch import nn

from feinschliff.nn import norm
from feinschliff.nn.blocks import CPU
from feinschliff.nn.linear import CastLinear, Projection
from feinschliff.nn.multiply import Multiply, blas


def swap(
    body: nn.Module, dtype: torch.dtype, *, trainable: bool, multiply: Multiply = blas, quantised: bool = False,
    device: torch.device = CPU,
) -> None:
    """Replace the linear layers (and, when frozen, the RMSNorms) of `body`, in place; each frees what it replaces.

    `multiply` makes the products with frozen weights; `quantised` holds those in 4 bits. Layer by layer all comes to `device`,
    so that it never holds more than the result and one layer.
    """
    for name in [name for name, _ in body.named_modules()]:
        module = body.get_submodule(name)
        replacement: nn.Module | None = None
        if type(module) is nn.Linear:
            module.to(device)
            given = module.weight, module.bias, dtype
            replacement = CastLinear(*given) if trainable else Projection(*given, multiply, quantised=quantised)
        elif not trainable:
            replacement = norm.like(module, dtype)
        if replacement is not None:
            parent, _, leaf = name.rpartition(".")
            setattr(body.get_submodule(parent), leaf, replacement)
    body.to(device)  # embeddings and buffers

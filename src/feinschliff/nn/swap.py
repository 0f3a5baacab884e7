"""Put our linear layers and norms in the place of a transformers model's own."""
import torch
from torch import nn

from feinschliff.nn import norm
from feinschliff.nn.linear import CastLinear, Projection


def swap(body: nn.Module, dtype: torch.dtype, *, trainable: bool) -> None:
    """Replace the linear layers (and, when frozen, the RMSNorms) of `body`, in place."""
    for name, module in list(body.named_modules()):
        replacement: nn.Module | None = None
        if type(module) is nn.Linear:
            replacement = (CastLinear if trainable else Projection)(module.weight, module.bias, dtype)
        elif not trainable:
            replacement = norm.like(module, dtype)
        if replacement is not None:
            parent, _, leaf = name.rpartition(".")
            setattr(body.get_submodule(parent), leaf, replacement)

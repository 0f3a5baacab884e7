"""Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): a decoder layer keeps its input only, and the backward pass
runs it once more. About a third more time for a small part of the memory; the gradients are the same to the bit.
"""
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


def layers(body: nn.Module) -> list[nn.Module]:
    """The decoder layers, in order of their names; empty where the model names none of the usual ways."""
    stack = getattr(body, "layers", None)
    if isinstance(stack, nn.ModuleList):
        return list(stack)
    return [m for m in body.modules() if isinstance(m, GradientCheckpointingLayer)]


def recompute(body: nn.Module, *, on: bool) -> None:
    """Switch checkpointing of all decoder layers on or off.

    The instance's `forward` is wrapped, not its class or its place in the model, so names of weights stay as they are.
    Nothing here draws random numbers (models are loaded for evaluation, without dropout), so their state isn't kept.
    """
    for layer in layers(body):
        vars(layer).pop("forward", None)
        if on:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)

"""FSDP2 (torch's `fully_shard`, Zhao et al. 2023, arXiv 2304.11277): each rank keeps a slice of every weight, gradient and
optimizer state, and gathers a decoder layer's weights only while it computes that layer.

Saved states and models are whole, so they are the same files as those of a run in one process.
"""
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from typing_extensions import override

from feinschliff.nn.model import Decoder
from feinschliff.nn.recompute import layers
from feinschliff.nn.tree import Node, Packed

Loss = tuple[Tensor, int]
HeadedLoss = Callable[[Packed, Tensor], Loss]  # of a packed tree, with the head's weight (V, D)


class ShardedLoss(nn.Module):
    """A decoder's body and head under one root, so that the head too is whole while it is used, tied or not.

    Every rank must call it equally often: each call gathers weights, and its backward pass sums and parts gradients.
    """

    def __init__(self, decoder: Decoder, loss: HeadedLoss) -> None:
        super().__init__()
        assert isinstance(decoder.head, nn.Parameter)  # frozen weights are not sharded
        self.body = decoder.body
        self.lm_head = decoder.head
        self._loss = loss

    @override
    def forward(self, packed: Packed) -> Loss:
        return self._loss(packed, self.lm_head)


def shard(decoder: Decoder, loss: HeadedLoss, where: torch.device) -> ShardedLoss:
    """Part the decoder's weights among the ranks, in place, layer by layer onto `where`; `decoder.head` becomes this rank's slice too."""
    root = ShardedLoss(decoder, loss)
    mesh = init_device_mesh(where.type, (dist.get_world_size(),))
    for layer in layers(decoder.body):
        fully_shard(layer, mesh=mesh)
    fully_shard(root, mesh=mesh, reshard_after_forward=True)  # so that between steps there are slices only
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # sums: the loss is normalised by the whole step already
            module.set_force_sum_reduction_for_comms(True)
    decoder.head = root.lm_head
    return root


def idle() -> Packed:
    """A tree of one token that trains nothing, for a rank that has fewer trees than another."""
    none = torch.zeros(0, dtype=torch.int64)
    token = torch.zeros(1, dtype=torch.int64)
    return Packed(token, token, (Node(0, 1, 1),), none, none, none.float(), logical_tokens=0)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which each rank has a slice; any other as it is. Every rank must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """This rank's slice of a whole `tensor`, parted as `parameter` is."""
    if not isinstance(parameter, DTensor) or tensor.shape != parameter.shape:
        return tensor
    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None)


def whole_state(optimizer: Optimizer, *, keep: bool) -> dict[str, Any]:
    """`optimizer.state_dict()` with whole tensors. Every rank must call it; only who keeps it holds more than one at a time."""
    state = optimizer.state_dict()
    if not any(isinstance(v, DTensor) for one in state["state"].values() for v in one.values()):
        return state
    parts = {i: {k: _kept(v, keep=keep) for k, v in one.items()} for i, one in state["state"].items()}
    return {**state, "state": parts}


def whole_parameters(parameters: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """`parameters` with whole tensors, likewise; empty where they are not kept."""
    every = {name: _kept(p, keep=keep) for name, p in parameters.items()}
    return {name: p for name, p in every.items() if p is not None}


def _kept(value: Tensor, *, keep: bool) -> Tensor | None:
    tensor = whole(value.detach())
    return tensor.cpu() if keep else None


def parted_state(state: dict[str, Any], parameters: Sequence[Tensor]) -> dict[str, Any]:
    """A whole optimizer state as this rank's slices, the inverse of `whole_state`. `parameters`: in the optimizer's order."""
    parts = {i: {k: like(v, parameters[i]) for k, v in one.items()} for i, one in state["state"].items()}
    return {**state, "state": parts}

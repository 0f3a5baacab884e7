import pytest
import torch

from feinschliff.core.chat import Rendered
from feinschliff.core.jobs import Full, Lora, TrainSpec
from feinschliff.nn.model import load
from feinschliff.nn.recompute import layers, recompute
from feinschliff.nn.tree import pack
from feinschliff.train.model import Trainable
from tiny import FAMILIES, make_tiny_model

EXAMPLES = [Rendered([*range(5, 60), 70 + i, *range(100, 130)], [0.0] * 50 + [1.0] * 36) for i in range(3)]


def result(model: Trainable) -> tuple[int, torch.Tensor, dict[str, torch.Tensor]]:
    """Bytes kept for the backward pass, the loss and the gradients."""
    kept: dict[int, int] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss, _ = model.loss(pack(EXAMPLES))
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in model.parameters().items()}
    for p in model.parameters().values():
        p.grad = None
    return sum(kept.values()), loss.detach(), gradients


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", [Lora(rank=4), Full()], ids=["lora", "full"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_same_loss_and_gradients_to_the_bit_for_fewer_bytes(family, method, dtype, tmp_path):
    folder = make_tiny_model(tmp_path / family, family)
    model = Trainable.make(TrainSpec(model=str(folder), train_files=("unused",), method=method), folder, dtype)
    names = list(model.parameters())
    whole = result(model)
    recompute(model.decoder.body, on=True)
    light = result(model)
    assert list(model.parameters()) == names
    assert torch.equal(light[1], whole[1])
    assert all(torch.equal(light[2][n], whole[2][n]) for n in names)
    assert light[0] < 0.5 * whole[0]
    recompute(model.decoder.body, on=False)
    assert result(model)[0] == whole[0]


def test_layers_are_found_by_their_kind_where_the_model_names_them_otherwise(tiny_model):
    body = load(tiny_model, dtype=torch.float32, trainable=False, fast=False).body
    outer = torch.nn.Module()
    outer.blocks = torch.nn.ModuleList(layers(body))
    assert layers(outer) == layers(body)
    assert len(layers(outer)) == 2

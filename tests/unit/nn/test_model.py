import pytest
import torch

from feinschliff.core.chat import Rendered
from feinschliff.core.errors import ModelUnavailable
from feinschliff.nn.attention import TreeAttend
from feinschliff.nn.linear import Projection
from feinschliff.nn.model import load
from feinschliff.nn.norm import RmsNorm
from feinschliff.nn.tree import pack
from tiny import FAMILIES, make_tiny_model


@pytest.mark.parametrize("family", FAMILIES)
def test_every_linear_layer_and_norm_is_replaced_in_a_frozen_model(family, tmp_path):
    decoder = load(make_tiny_model(tmp_path / family, family), dtype=torch.float32, trainable=False)
    kinds = {type(m) for m in decoder.body.modules()}
    assert Projection in kinds
    assert RmsNorm in kinds
    assert torch.nn.Linear not in kinds
    assert not any(p.requires_grad for p in decoder.body.parameters())
    assert decoder.window == (24 if family in {"phi3", "gemma2", "gemma3"} else None)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
def test_a_base_in_four_bits_is_the_base_with_its_weights_rounded(family, fast, tmp_path):
    folder = make_tiny_model(tmp_path / family, family)
    held, dense = (load(folder, dtype=torch.float32, trainable=False, fast=fast, quantised=q) for q in (True, False))
    squares, errors = 0.0, 0.0
    with torch.no_grad():
        for (_, ours), (_, theirs) in zip(held.projections(), dense.projections(), strict=True):
            squares += float(theirs.weight.square().sum())
            errors += float((ours.weight - theirs.weight).square().sum())
            theirs.weight.copy_(ours.weight)
    packed = pack([Rendered([5, 6, 7, 8, 9], [0.0] * 4 + [1.0])])
    with torch.no_grad():
        states = [d.hidden(packed.tokens_T, packed.positions_T, TreeAttend(packed)) for d in (held, dense)]
    assert torch.equal(*states)
    assert held.quantisation_error == pytest.approx((errors / squares) ** 0.5, rel=1e-4)
    assert 0.05 < held.quantisation_error < 0.12
    assert dense.quantisation_error is None


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load(tmp_path, dtype=torch.float32, trainable=False)

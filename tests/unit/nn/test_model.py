import pytest
import torch

from feinschliff.core.errors import ModelUnavailable
from feinschliff.nn.linear import Projection
from feinschliff.nn.model import load
from feinschliff.nn.norm import RmsNorm
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


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load(tmp_path, dtype=torch.float32, trainable=False)

import pytest
import torch
from transformers import AutoModelForCausalLM

from feinschliff.core.errors import ModelUnavailable
from feinschliff.nn.linear import Projection
from feinschliff.nn.model import load
from feinschliff.train.shape import ModelShape
from tiny import FAMILIES, make_tiny_model


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shape_without_weights_is_that_of_the_loaded_model(family, tmp_path):
    folder = make_tiny_model(tmp_path, family)
    shape = ModelShape.of(folder)
    decoder = load(folder, dtype=torch.float32, trainable=False)
    assert [(x.leaf, x.n_out, x.n_in) for x in shape.linears] == [
        (name.rsplit(".", 1)[-1], p.out_features, p.in_features) for name, p in decoder.body.named_modules() if isinstance(p, Projection)
    ]
    assert (shape.vocabulary, shape.hidden) == tuple(decoder.head.shape)
    whole = AutoModelForCausalLM.from_pretrained(str(folder))
    assert shape.parameters == sum(p.numel() for p in whole.parameters())
    assert shape.family == whole.config.model_type


def test_a_folder_without_a_model_is_said(tmp_path):
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        ModelShape.of(tmp_path)

"""Fused layers are the plain ones, faster: the same numbers forward and backward, and only where that is so."""
import json

import pytest
import torch

from feinschliff.core.chat import Rendered
from feinschliff.core.jobs import Lora
from feinschliff.nn import adapter
from feinschliff.nn.attention import TreeAttend
from feinschliff.nn.fused import FusedLayer
from feinschliff.nn.model import Decoder, load
from feinschliff.nn.tree import pack
from tiny import FAMILIES, WINDOW, make_tiny_model

FUSABLE = ("llama", "qwen2", "phi3")
EXAMPLES = [
    Rendered([5, 6, 7, 8, *range(20, 60)], [0.0] * 30 + [1.0] * 14),
    Rendered([5, 6, 7, 8, *range(20, 40), 9, 10], [0.0] * 10 + [0.5] * 16),
    Rendered([11, 12, 13], [0.0, 1.0, 1.0]),
]


def is_fused(decoder: Decoder) -> bool:
    return any(isinstance(m, FusedLayer) for m in decoder.body.modules())


def with_adapter(folder, method: Lora, dtype: torch.dtype, *, fast: bool) -> Decoder:
    decoder = load(folder, dtype=dtype, trainable=False, fast=fast)
    adapter.add(decoder, method, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _, projection in decoder.projections():
            if projection.lora_B is not None:
                projection.lora_B.copy_(torch.randn(projection.lora_B.shape, generator=generator) * 0.1)
            projection.product.refresh()
    return decoder


def outcome(decoder: Decoder) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Hidden states of a small prefix tree, and the gradients of a random weighting of them."""
    packed = pack(EXAMPLES, min_saving=1)
    hidden = decoder.hidden(packed.tokens_T, packed.positions_T, TreeAttend(packed))
    weight = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    (hidden.double() * weight).sum().backward()
    return hidden.detach(), {n: p.grad for n, p in decoder.body.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("window", "dora"), [(9, False), (1000, False), (1000, True)])
@pytest.mark.parametrize("targets", ["all-linear", ("v_proj", "up_proj"), ("qkv_proj", "down_proj")])
@pytest.mark.parametrize("family", FUSABLE)
def test_same_numbers_as_the_plain_layers(family, targets, window, dora, tmp_path):
    folder = make_tiny_model(tmp_path / "m", family, window=window)
    stacked = family == "phi3"
    if isinstance(targets, tuple) and ("qkv_proj" in targets) != stacked:
        pytest.skip("this family names its layers otherwise")
    method = Lora(rank=4, alpha=8.0, targets=targets, dora=dora)
    fused, plain = (with_adapter(folder, method, torch.float64, fast=fast) for fast in (True, False))
    assert is_fused(fused)
    assert not is_fused(plain)
    (ours, our_grads), (wanted, wanted_grads) = outcome(fused), outcome(plain)
    torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-10)
    assert our_grads.keys() == wanted_grads.keys()
    assert our_grads
    for name, grad in our_grads.items():
        torch.testing.assert_close(grad, wanted_grads[name], rtol=1e-8, atol=1e-9, msg=name)


def test_in_bfloat16_nearer_to_exact_than_the_plain_layers_or_equally_near(tmp_path):
    folder = make_tiny_model(tmp_path / "m", "llama", layers=4)
    method = Lora(rank=4, alpha=8.0)
    exact = outcome(with_adapter(folder, method, torch.float64, fast=False))[0]
    errors = [
        float((outcome(with_adapter(folder, method, torch.bfloat16, fast=fast))[0].double() - exact).norm() / exact.norm())
        for fast in (True, False)
    ]
    assert errors[0] < 1.2 * errors[1] < 0.1


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in FUSABLE])
def test_other_shapes_stay_plain(family, tmp_path):
    assert not is_fused(load(make_tiny_model(tmp_path / "m", family), dtype=torch.float32, trainable=False))


def test_the_right_shape_with_another_activation_stays_plain(tmp_path):
    folder = make_tiny_model(tmp_path / "m", "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "gelu"}))
    assert not is_fused(load(folder, dtype=torch.float32, trainable=False))


def test_heads_rotated_in_part_stay_plain(tmp_path):
    folder = make_tiny_model(tmp_path / "m", "phi3")
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"]["partial_rotary_factor"] = 0.5
    (folder / "config.json").write_text(json.dumps(config))
    assert not is_fused(load(folder, dtype=torch.float32, trainable=False))


def test_the_window_of_each_layer_is_kept(tmp_path):
    decoder = load(make_tiny_model(tmp_path / "m", "phi3"), dtype=torch.float32, trainable=False)
    assert [layer._shape.window for layer in decoder.body.layers] == [WINDOW, WINDOW]


def test_parameters_keep_their_names(tmp_path):
    folder = make_tiny_model(tmp_path / "m", "llama")
    names = [
        [n for n, _ in with_adapter(folder, Lora(rank=2, alpha=2.0), torch.float32, fast=fast).projections()]
        for fast in (True, False)
    ]
    assert sorted(names[0]) == sorted(names[1])

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from feinschliff.core.chat import Rendered
from feinschliff.core.errors import BadStudy, ModelUnavailable
from feinschliff.core.jobs import Lora
from feinschliff.nn import adapter
from feinschliff.nn.attention import TreeAttend
from feinschliff.nn.model import Decoder, load
from feinschliff.nn.tree import pack
from tiny import make_tiny_model

TOKENS = list(range(5, 40))


def plain(folder):
    return AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)


def our_logits(decoder: Decoder) -> torch.Tensor:
    packed = pack([Rendered([*TOKENS, 0], [0.0] * len(TOKENS) + [1.0])])
    with torch.no_grad():
        return decoder.logits(decoder.hidden(packed.tokens_T, packed.positions_T, TreeAttend(packed)))


def their_logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([TOKENS])).logits[0]


def filled(decoder: Decoder, method: Lora, seed: int = 3) -> Decoder:
    adapter.add(decoder, method, seed)
    with torch.no_grad():
        for _, projection in decoder.projections():
            if projection.lora_B is not None:
                projection.lora_B.normal_(0, 0.2)
            if projection.lora_magnitude_vector is not None:
                projection.lora_magnitude_vector.mul_(1 + 0.5 * torch.rand(projection.out_features))
            projection.product.refresh()
    return decoder


@pytest.mark.parametrize(("rslora", "dora"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "down_proj")])
def test_saved_adapter_is_loaded_by_peft_with_equal_logits(tiny_model, tmp_path, targets, rslora, dora):
    method = Lora(rank=4, alpha=16, targets=targets, rslora=rslora, dora=dora)
    decoder = filled(load(tiny_model, dtype=torch.float32, trainable=False), method)
    adapter.save(tmp_path, adapter.current(decoder), method, str(tiny_model))
    assert adapter.read(tmp_path)[1] == method.scale == (8 if rslora else 4)
    theirs = PeftModel.from_pretrained(plain(tiny_model), str(tmp_path))
    torch.testing.assert_close(our_logits(decoder), their_logits(theirs), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(our_logits(decoder), their_logits(plain(tiny_model)), atol=0.1)


@pytest.mark.parametrize(("rslora", "dora"), [(False, False), (True, False), (False, True)])
def test_peft_adapter_is_read_with_equal_logits(tiny_model, tmp_path, rslora, dora):
    config = LoraConfig(
        r=4, lora_alpha=8, use_rslora=rslora, use_dora=dora, target_modules=["q_proj", "up_proj"], init_lora_weights=False
    )
    theirs = get_peft_model(plain(tiny_model), config)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "magnitude" in name:
                parameter.mul_(1 + 0.5 * torch.rand(len(parameter)))
    theirs.save_pretrained(str(tmp_path))
    decoder = load(tiny_model, dtype=torch.float32, trainable=False)
    adapter.apply(decoder, *adapter.read(tmp_path))
    torch.testing.assert_close(our_logits(decoder), their_logits(theirs), rtol=1e-4, atol=1e-4)
    adapter.apply(decoder, {}, 1.0)
    torch.testing.assert_close(our_logits(decoder), their_logits(plain(tiny_model)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("option", [{"rank_pattern": {"q_proj": 2}}, {"modules_to_save": ["lm_head"]}])
def test_peft_features_that_would_be_lost_are_refused(tiny_model, tmp_path, option):
    config = LoraConfig(r=4, target_modules=["q_proj"], **option)
    get_peft_model(plain(tiny_model), config).save_pretrained(str(tmp_path))
    with pytest.raises(ModelUnavailable, match=next(iter(option))):
        adapter.read(tmp_path)


def test_dora_without_magnitudes_is_refused(tiny_model, tmp_path):
    method = Lora(rank=2, alpha=4)
    adapter.save(tmp_path, adapter.current(filled_fresh(tiny_model, 0)), method.model_copy(update={"dora": True}), "base")
    with pytest.raises(ModelUnavailable, match="without the magnitudes"):
        adapter.read(tmp_path)


def test_layers_that_the_base_lacks_are_an_error(tiny_model, tmp_path):
    deeper = load(make_tiny_model(tmp_path / "deep", layers=3), dtype=torch.float32, trainable=False)
    method = Lora(rank=2, alpha=4)
    filled(deeper, method)
    adapter.save(tmp_path / "adapter", adapter.current(deeper), method, "deep")
    decoder = load(tiny_model, dtype=torch.float32, trainable=False)
    with pytest.raises(ModelUnavailable, match=r"layers\.2\."):
        adapter.apply(decoder, *adapter.read(tmp_path / "adapter"))


def test_targets_that_match_nothing_name_the_layers(tiny_model):
    with pytest.raises(BadStudy, match="query_key_value") as caught:
        adapter.add(load(tiny_model, dtype=torch.float32, trainable=False), Lora(targets=("query_key_value",)), 0)
    assert "q_proj" in caught.value.hint


def test_same_seed_same_adapter(tiny_model):
    a, b, c = (adapter.current(filled_fresh(tiny_model, seed)) for seed in (1, 1, 2))
    name = next(iter(a))
    assert torch.equal(a[name][0], b[name][0])
    assert not torch.equal(a[name][0], c[name][0])


def filled_fresh(folder, seed):
    decoder = load(folder, dtype=torch.float32, trainable=False)
    adapter.add(decoder, Lora(rank=2), seed)
    return decoder


def test_a_folder_without_an_adapter_is_named(tmp_path):
    with pytest.raises(ModelUnavailable, match="adapter_config"):
        adapter.read(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 1, "lora_alpha": 1}), encoding="utf-8")
    with pytest.raises(ModelUnavailable, match="adapter_model"):
        adapter.read(tmp_path)

"""The prefix tree gives the loss and the gradients of separate examples, for every architecture."""
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

import plain_model
from feinschliff.core.chat import Rendered
from feinschliff.core.jobs import Full, TrainSpec
from feinschliff.train.model import Trainable
from plain_model import (
    METHOD,
    Pair,
    difference,
    families_of_examples,
    make_pair,
    packed_result,
    separate_result,
)
from tiny import FAMILIES, make_tiny_model

few = settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
# Reference and ours both in float64; Gemma 2 is only exact to float32, because transformers' softcapped attention is.
EXACT = {"llama": "sdpa", "qwen2": "sdpa", "qwen3": "sdpa", "phi3": "sdpa", "gemma3": "sdpa"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exactness")


@cache
def pair_of(family: str, folder: Path, dtype: torch.dtype, window: int) -> Pair:
    name = f"{family}-{window}-{dtype}"
    model = make_tiny_model(folder / name, family, window=window)
    attention = EXACT.get(family, "eager") if dtype == torch.float64 else "eager"
    return make_pair(model, folder / f"{name}-adapter", dtype, attention=attention)


@pytest.mark.parametrize("family", FAMILIES)
@few
@given(families_of_examples(), st.sampled_from([1, 8, 64]), st.booleans())
def test_tree_equals_separate_examples_in_float32(family, folder, examples, min_saving, share):
    pair = pair_of(family, folder, torch.float32, 9)
    loss, grads = packed_result(pair.ours, examples, min_saving=min_saving, share=share)
    expected, expected_grads = separate_result(pair.plain, examples)
    assert loss == pytest.approx(expected, rel=2e-5)
    assert difference(grads, expected_grads) < 1e-4


@pytest.mark.parametrize("family", EXACT)
@pytest.mark.parametrize("window", [9, 100])  # shorter and longer than the examples
@few
@given(families_of_examples(), st.sampled_from([1, 64]))
def test_tree_equals_separate_examples_in_float64(family, window, folder, examples, min_saving):
    pair = pair_of(family, folder, torch.float64, window)
    loss, grads = packed_result(pair.ours, examples, min_saving=min_saving)
    expected, expected_grads = separate_result(pair.plain, examples)
    assert loss == pytest.approx(expected, rel=1e-10)
    assert difference(grads, expected_grads) < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", ["qwen2", "phi3", "gemma3"])  # with biases; fused and stacked; plain layers
def test_dora_has_the_gradients_of_separate_examples(family, dtype, folder, monkeypatch):
    model = make_tiny_model(folder / f"dora-{family}-{dtype}", family)
    monkeypatch.setattr(plain_model, "METHOD", METHOD.model_copy(update={"dora": True}))
    pair = make_pair(model, folder / f"dora-{family}-{dtype}-adapter", dtype, attention=EXACT[family])
    examples = [
        Rendered([5, 6, 7, 8, *range(20, 60)], [0.0] * 4 + [1.0] * 40),
        Rendered([5, 6, 7, 9, 10], [0.0, 0.0, 0.0, 1.0, 1.0]),
    ]
    loss, grads = packed_result(pair.ours, examples, min_saving=1)
    expected, expected_grads = separate_result(pair.plain, examples)
    assert any(name.endswith("lora_magnitude_vector") and g.any() for name, g in grads.items())
    assert loss == pytest.approx(expected, rel=1e-10 if dtype == torch.float64 else 2e-5)
    assert difference(grads, expected_grads) < (1e-9 if dtype == torch.float64 else 1e-4)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_full_fine_tuning_has_the_gradients_of_separate_examples(family, folder):
    model = make_tiny_model(folder / f"full-{family}", family)
    spec = TrainSpec(model=str(model), train_files=("unused",), method=Full())
    ours = Trainable.make(spec, model, torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(str(model), dtype=torch.float32, attn_implementation="eager")
    examples = [
        Rendered([5, 6, 7, 8, *range(20, 40)], [0.0] * 4 + [1.0] * 20),
        Rendered([5, 6, 7, 9, 10], [0.0, 0.0, 0.0, 1.0, 1.0]),
    ]
    loss, grads = packed_result(ours, examples, min_saving=1)
    expected, expected_grads = separate_result(plain, examples)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert difference(grads, expected_grads) < 1e-4


def test_bfloat16_stays_within_two_percent_of_float32(folder):
    """bf16 has 8 bits of precision; single gradients of random weights may differ by several roundings."""
    exact = pair_of("llama", folder, torch.float32, 9)
    model = folder / "llama-9-torch.float32"
    spec = TrainSpec(model=str(model), train_files=("unused",), method=METHOD)
    low = Trainable.make(spec, model, torch.bfloat16)
    with torch.no_grad():
        for name, p in low.parameters().items():
            p.copy_(exact.ours.parameters()[name])
    low.after_update()
    examples = [Rendered(list(range(5, 60)), [0.0] * 10 + [1.0] * 45), Rendered(list(range(5, 30)), [0.0] * 20 + [1.0] * 5)]
    loss, grads = packed_result(low, examples, min_saving=1)
    expected, expected_grads = packed_result(exact.ours, examples, min_saving=1)
    assert loss == pytest.approx(expected, rel=0.02)
    a = torch.cat([g.flatten() for g in grads.values()])
    b = torch.cat([g.flatten() for g in expected_grads.values()])
    assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.99

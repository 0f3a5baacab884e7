"""A model folder describes itself."""
import json

import pytest

from feinschliff.catalog.folder import describe
from feinschliff.catalog.models import load_catalog

LLAMA = {
    "model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536, "num_attention_heads": 9,
    "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True, "max_position_embeddings": 8192,
}  # fmt: skip


def described(folder, config):
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return describe("mine", folder)


def test_the_same_sizes_as_the_catalogue_has(tmp_path):
    mine, known = described(tmp_path, LLAMA), load_catalog().find("smollm2-135m-instruct")
    assert mine.architecture.model_dump(exclude={"source"}) == known.architecture.model_dump(exclude={"source"})
    assert mine.max_request_tokens.input == 8192
    assert mine.parameters == pytest.approx(known.parameters, rel=0.001)


def test_a_families_defaults(tmp_path):
    gemma = {k: v for k, v in LLAMA.items() if k not in ("tie_word_embeddings", "num_key_value_heads")} | {"model_type": "gemma3_text", "head_dim": 256}
    sizes = described(tmp_path, gemma).architecture
    assert (sizes.tied, sizes.kv_heads, sizes.head_dim, sizes.fused) == (True, 9, 256, False)


@pytest.mark.parametrize("change", [{"num_local_experts": 32}, {"hidden_size": None}])
def test_sizes_that_are_not_known_stay_empty(tmp_path, change):
    assert described(tmp_path, LLAMA | change).architecture is None


def test_a_folder_without_a_config_has_a_name(tmp_path):
    assert describe("mine", tmp_path).id == "mine"

"""Adapters as vLLM is told of them."""
import json
import os

import pytest

from feinschliff.core.errors import ModelUnavailable
from feinschliff.serve.vllm.adapters import check, name_of


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 16, "use_dora": False}))
    return tmp_path


def test_changed_weights_have_another_name(folder):
    name = name_of(folder)
    assert name == name_of(folder)
    os.utime(folder / "adapter_model.safetensors", ns=(1, 1))
    assert name_of(folder) != name


def test_what_is_refused_names_a_remedy(folder):
    check(folder)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 16, "use_dora": True}))
    with pytest.raises(ModelUnavailable, match="DoRA") as refused:
        check(folder)
    assert "--engine feinschliff" in refused.value.hint
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match=r"adapter_model\.safetensors is missing"):
        name_of(folder)

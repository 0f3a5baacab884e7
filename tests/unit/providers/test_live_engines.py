"""Which engine answers."""
import sys
from pathlib import Path

import pytest

from feinschliff.core.errors import FeinschliffError
from feinschliff.core.settings import Settings
from feinschliff.providers import live_engines
from feinschliff.providers.live_engines import engine_program, has_vllm
from feinschliff.providers.live_program import OURS


@pytest.fixture
def with_vllm(tmp_path):
    """An interpreter that finds a package of that name; whether it is the true one is not asked."""
    folder = tmp_path / "packages" / "vllm"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncd {folder.parent}\nshift\nexec {sys.executable} "$@"\n')  # -I is dropped: the package is in the working folder
    python.chmod(0o755)
    return python


def settings(tmp_path, **more):
    return Settings(data_dir=tmp_path, **more)


def test_vllm_is_taken_where_it_is_demanded(tmp_path, with_vllm):
    found = engine_program(settings(tmp_path, engine="vllm", vllm_python=with_vllm, vllm_options=("--dtype", "float32")))
    assert found.module == "feinschliff.serve.vllm"
    assert found.arguments == ("--python", str(with_vllm), "--options=--dtype float32")


@pytest.mark.parametrize("devices", [0, 1])
def test_by_itself_only_where_there_is_a_device(tmp_path, with_vllm, devices, monkeypatch):
    monkeypatch.setattr(live_engines, "cuda_devices", lambda: devices)
    found = engine_program(settings(tmp_path, engine="auto", vllm_python=with_vllm))
    assert (found != OURS, found.fills_device) == (bool(devices), bool(devices))
    assert engine_program(settings(tmp_path, vllm_python=with_vllm, engine="feinschliff")) == OURS
    assert engine_program(settings(tmp_path, engine="auto", vllm_python=tmp_path / "none")) == OURS


def test_vllm_that_is_not_there_is_missed_with_a_remedy(tmp_path):
    with pytest.raises(FeinschliffError, match="has no vLLM") as missed:
        engine_program(settings(tmp_path, engine="vllm", vllm_python=tmp_path / "none"))
    assert "--vllm-python" in missed.value.hint


def test_a_folder_of_that_name_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "vllm").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not has_vllm(Path(sys.executable))

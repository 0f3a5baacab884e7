import hashlib
import importlib

import pytest

from feinschliff.catalog.models import Catalog, CatalogModel, FolderPackage, GgufPackage, load_catalog
from feinschliff.core.errors import ModelUnavailable
from feinschliff.providers.weights import model_folder, weights_sha256


def catalog(source) -> Catalog:
    model = CatalogModel(id="tiny", kind="chat", licence="MIT", about="", source="this test", sources=(source,))
    return Catalog(models=(model,))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An importable package folder that breaks when it is imported."""
    folder = tmp_path / "site" / "tiny_weights_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("FEINSCHLIFF_CACHE", str(tmp_path / "cache"))
    importlib.invalidate_caches()
    return folder


def test_a_folder_is_its_own_model(tiny_model):
    assert model_folder(str(tiny_model), Catalog(models=())) == tiny_model.resolve()


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ModelUnavailable, match="no model 'smollm-135m-instruct'") as caught:
        model_folder("smollm-135m-instruct", load_catalog())
    assert "Did you mean 'smollm2-135m-instruct'?" in caught.value.hint


def test_a_file_with_another_checksum_is_refused(package, tmp_path):
    (package / "weights.gguf").write_bytes(b"something else")
    source = GgufPackage(
        kind="gguf_package", package="tiny-weights", version="1", module=package.name, file="weights.gguf", sha256="0" * 64
    )
    with pytest.raises(ModelUnavailable, match="checksum differs"):
        model_folder("tiny", catalog(source))
    assert not (tmp_path / "cache" / "models" / "tiny").exists()


def test_a_conversion_that_breaks_is_said_and_leaves_no_folder(package, tmp_path):
    content = b"GGUF but not really"
    (package / "weights.gguf").write_bytes(content)
    source = GgufPackage(
        kind="gguf_package", package="tiny-weights", version="1", module=package.name, file="weights.gguf",
        sha256=hashlib.sha256(content).hexdigest(),
    )  # fmt: skip
    with pytest.raises(ModelUnavailable, match="conversion failed"):
        model_folder("tiny", catalog(source))
    assert not (tmp_path / "cache" / "models" / "tiny").exists()


def test_a_folder_inside_a_package_is_used_where_it_lies_without_importing_it(package):
    (package / "model").mkdir()
    (package / "model" / "config.json").write_text("{}", encoding="utf-8")
    source = FolderPackage(kind="folder_package", package="tiny-weights", version="1", module=package.name, folder="model")
    assert model_folder("tiny", catalog(source)) == package / "model"


def test_checksum_of_weights_is_remembered_only_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEINSCHLIFF_CACHE", str(tmp_path / "cache"))
    digests = []
    for folder in (tmp_path / "cache" / "models" / "m", tmp_path / "own"):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"abc")
        digests.append(weights_sha256(folder))
        assert (folder / "feinschliff.sha256").exists() == (folder.name == "m")
    assert digests == [hashlib.sha256(b"abc").hexdigest()] * 2
    (folder := tmp_path / "cache" / "models" / "m").joinpath("model.safetensors").write_bytes(b"abcd")
    assert weights_sha256(folder) == hashlib.sha256(b"abcd").hexdigest()
    with pytest.raises(ModelUnavailable, match=r"no model\.safetensors"):
        weights_sha256(tmp_path)


def test_a_hosted_model_has_no_weights():
    with pytest.raises(ModelUnavailable, match="only its provider, azure, runs it") as caught:
        model_folder("gpt-4o", load_catalog())
    assert "--region local" in caught.value.hint

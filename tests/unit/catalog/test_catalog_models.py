import pytest

from feinschliff.catalog.models import load_catalog
from feinschliff.core.errors import BadStudy, ModelUnavailable

MINE = """
[[models]]
id = "{id}"
kind = "chat"
licence = "MIT"
about = "mine"
source = "me"
sources = [{{ kind = "hub", repository = "me/mine" }}]
"""


def test_every_built_in_model_has_a_licence_a_source_and_a_way_to_be_had():
    models = load_catalog().models
    assert models
    assert len({m.id for m in models}) == len(models)
    assert all(m.licence and m.source and m.sources for m in models)


@pytest.mark.parametrize(("name", "grows"), [("mine", 1), ("smollm2-135m-instruct", 0)])
def test_own_models_are_added_and_replace(tmp_path, name, grows):
    file = tmp_path / "models.toml"
    file.write_text(MINE.format(id=name), encoding="utf-8")
    catalog = load_catalog(file)
    assert len(catalog.models) == len(load_catalog().models) + grows
    assert catalog.find(name).about == "mine"


@pytest.mark.parametrize("text", ["[[models]]\nid = 3", "not toml", MINE.format(id="x") + 'size = "big"\n'])
def test_a_malformed_list_names_the_file(tmp_path, text):
    file = tmp_path / "models.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadStudy, match=r"models\.toml"):
        load_catalog(file)
    with pytest.raises(BadStudy, match="absent"):
        load_catalog(tmp_path / "absent.toml")


def test_a_name_near_nothing_lists_all():
    with pytest.raises(ModelUnavailable) as caught:
        load_catalog().find("zzz")
    assert "Did you mean" not in caught.value.hint
    assert all(m.id in caught.value.hint for m in load_catalog().models)

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


def test_every_built_in_model_has_a_licence_and_a_source_and_is_there_once():
    models = load_catalog().models
    assert len({m.key for m in models}) == len(models) > 40
    assert all(m.licence and m.source and m.family for m in models)
    assert all(m.sources or m.provider != "local" for m in models)
    assert all(m.lifecycle.source for m in models if m.lifecycle.fine_tuning_until or m.lifecycle.inference_until or m.lifecycle.changes)


@pytest.mark.parametrize("model", [m for m in load_catalog().models if m.architecture], ids=lambda m: m.id)
def test_an_architecture_has_the_published_number_of_parameters(model):
    counted = model.architecture.linear_parameters + model.architecture.embedding_parameters
    assert counted == pytest.approx(model.parameters, rel=5e-4)  # norms and biases are the rest


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


def test_a_name_near_nothing_lists_those_with_weights():
    with pytest.raises(ModelUnavailable) as caught:
        load_catalog().find("zzz")
    assert "Did you mean" not in caught.value.hint
    assert all((m.id in caught.value.hint) or not m.sources for m in load_catalog().models)


@pytest.mark.parametrize(
    ("name", "provider", "key"),
    [
        ("gpt-35-turbo", None, ("gpt-35-turbo", "0125")),  # the last version
        ("gpt-35-turbo-0613", None, ("gpt-35-turbo", "0613")),
        ("GPT-35-Turbo:1106", None, ("gpt-35-turbo", "1106")),
        ("gpt-4o-2024-08-06", None, ("gpt-4o-2024-08-06", "2024-08-06")),  # OpenAI's id comes before Azure's alias
        ("gpt-4o-2024-08-06", "azure", ("gpt-4o", "2024-08-06")),
        ("Gemma-3-270M", None, ("gemma-3-270m-it", None)),
    ],
)
def test_names_that_a_model_answers_to(name, provider, key):
    assert load_catalog().find(name, provider).key == key


def test_of_a_providers_models_the_nearest_is_named():
    with pytest.raises(ModelUnavailable) as caught:
        load_catalog().find("smollm2-135m-instruct", "azure")
    assert "smollm2" not in caught.value.hint
    with pytest.raises(ModelUnavailable, match="gpt-4o-minni") as caught:
        load_catalog().find("gpt-4o-minni", "azure")
    assert "Did you mean 'gpt-4o-mini'?" in caught.value.hint

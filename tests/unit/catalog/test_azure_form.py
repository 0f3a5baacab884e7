"""Models in the shapes of Azure's interfaces."""
from datetime import date

from feinschliff.catalog.azure_form import data_plane, managed
from feinschliff.catalog.models import load_catalog

TODAY = date(2026, 11, 23)
CATALOG = load_catalog()


def shown(name, today=TODAY):
    return managed(CATALOG.find(name, "azure"), today).model_dump(by_alias=True, exclude_none=True)


def test_management_plane_has_names_dates_and_capabilities_as_texts():
    assert shown("gpt-4o") == {
        "kind": "OpenAI",
        "skuName": "S0",
        "model": {
            "format": "OpenAI",
            "name": "gpt-4o",
            "version": "2024-08-06",
            "lifecycleStatus": "Deprecating",
            "deprecation": {"fineTune": "2027-04-01T00:00:00Z", "inference": "2027-10-01T00:00:00Z"},
            "capabilities": {
                "fineTune": "true", "inference": "true", "chatCompletion": "true", "maxContextToken": "128000", "maxOutputToken": "16384",
            },
        },
    }  # fmt: skip


def test_what_has_retired_is_deprecated_there_and_can_do_nothing():
    gone = shown("gpt-4")["model"]
    assert gone["lifecycleStatus"] == "Deprecated"
    assert gone["capabilities"].keys().isdisjoint({"fineTune", "inference"})
    assert shown("gpt-4", date(2024, 11, 1))["model"]["lifecycleStatus"] == "Preview"


def test_data_plane_names_a_model_as_jobs_do():
    found = data_plane(CATALOG.find("gpt-35-turbo-0613", "azure"), date(2024, 11, 1))
    assert found.id == "gpt-35-turbo-0613"
    assert found.capabilities["fine_tune"]
    assert found.deprecation == {"inference": 1739404800}
    assert data_plane(CATALOG.find("smollm2-135m-instruct"), TODAY).id == "smollm2-135m-instruct"


def test_every_model_has_both_forms():
    for model in CATALOG.models:
        assert managed(model, TODAY).model.name == model.id
        assert data_plane(model, TODAY).capabilities["inference"] == (model.lifecycle.stage(TODAY) != "retired")

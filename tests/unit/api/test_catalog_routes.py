"""The catalogue over HTTP: what the command line prints, and Azure's management-plane form."""
import json
import subprocess
import sys
from pathlib import Path

import pytest
from azure.mgmt.cognitiveservices.models import AccountModelListResult, ModelListResult

from in_process import application

MANAGEMENT = "/subscriptions/s/{}providers/Microsoft.CognitiveServices/{}?api-version=2024-10-01"
REGIONS = """
[regions.north]
kind = "azure"
location = "North Central US"
endpoint = "https://r.openai.azure.com"
api_version = "2024-10-21"
key_env = "NORTH_KEY"
"""
MODELS = """
[[models]]
id = "house-model"
kind = "chat"
licence = "ours"
about = "ours"
source = "us"
sources = [{ kind = "hub", repository = "house/model" }]
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("config")
    (folder / "regions.toml").write_text(REGIONS, encoding="utf-8")
    (folder / "models.toml").write_text(MODELS, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def client(tmp_path_factory, config, tiny_model):
    with application(tmp_path_factory.mktemp("service"), config=config, models={"tiny": tiny_model}) as (_, client):
        yield client


def listed(client, **query) -> dict:
    answer = client.get("/v1/catalog/models", params=query)
    assert answer.status_code == 200, answer.text
    return {m["id"]: m for m in answer.json()["data"]}


def printed(config, *arguments):
    command = [sys.executable, "-m", "feinschliff.cli.main", "catalog", *arguments, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, check=True, env={"FEINSCHLIFF_CONFIG": str(config)}).stdout)


def test_the_same_models_and_keys_as_the_command_line_prints(client, config):
    assert client.get("/v1/catalog/models", params={"region": "north", "task": "fine-tune"}).json() == {
        "object": "list", "data": printed(config, "models", "--region", "north", "--task", "fine-tune"),
    }  # fmt: skip
    assert client.get("/v1/catalog/regions").json() == {"object": "list", "data": printed(config, "regions")}


def test_filters_narrow_the_list(client):
    everything = listed(client)
    assert {"house-model", "gpt-4o", "smollm2-135m-instruct"} <= everything.keys()
    assert {m["family"] for m in listed(client, family="phi3").values()} == {"Phi-3"}
    assert "gpt-4.1" in listed(client, region="northcentralus")
    assert "house-model" not in listed(client, region="north")
    assert {m["kind"] for m in listed(client, task="embedding").values()} == {"embedding"}
    assert all(m["open_weights"] or m["lifecycle"]["stage"] != "retired" for m in listed(client, current="true").values())
    assert "Meta-Llama-3.1-70b-Instruct" not in listed(client, fits_this_machine="true")


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [({"region": "Sweden Centrall"}, 404, "Did you mean 'Sweden Central'?"), ({"task": "reward"}, 400, "task")],
)
def test_what_is_not_known_is_an_error_in_the_apis_form(client, query, status, said):
    answer = client.get("/v1/catalog/models", params=query)
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]


def test_it_takes_a_key(client):
    assert client.get("/v1/catalog/models", headers={"authorization": ""}).status_code == 401


def test_azures_client_reads_a_locations_models(client):
    answer = client.get(MANAGEMENT.format("", "locations/swedencentral/models"))
    entries = {e.model.name: e for e in ModelListResult.deserialize(answer.json()).value}
    assert entries["gpt-4o-mini"].kind == "OpenAI"
    assert entries["gpt-4o-mini"].model.deprecation.fine_tune.startswith("20")
    assert "house-model" not in entries
    assert client.get(MANAGEMENT.format("", "locations/nowhere/models")).status_code == 404


def test_azures_client_reads_what_the_account_has(client):
    answer = client.get(MANAGEMENT.format("resourceGroups/g/", "accounts/a/models"))
    models = {m.name: m for m in AccountModelListResult.deserialize(answer.json()).value}
    assert {"tiny", "smollm2-135m-instruct", "house-model"} <= models.keys()
    assert "gpt-4o" not in models
    assert models["tiny"].capabilities["fineTune"] == "true"
    assert models["tiny"].capabilities["maxContextToken"] == "512"
    assert models["all-minilm-l6-v2"].capabilities["embeddings"] == "true"

"""Deployments through Azure Resource Manager's paths: variants of requests, and Azure's error bodies."""
import pytest

from feinschliff.app.keys import create_key
from feinschliff.core.service import Scope
from in_process import application

ACCOUNT = "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a"
VERSION = {"api-version": "2025-09-01"}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("management")
    with application(folder, models={"tiny": folder}) as (service, client):
        client.params = VERSION
        client.reader = create_key(service, project="default", name="reader", scope=Scope.READ)[1]
        yield client


def put(client, name="mine", model="tiny", **more):
    return client.put(f"{ACCOUNT}/deployments/{name}", json={"properties": {"model": {"name": model}}} | more)


def test_what_is_put_comes_back_and_the_second_time_is_a_change(client):
    sku = {"name": "GlobalStandard", "capacity": 50}
    first = put(client, sku=sku, tags={"team": "a"})
    assert first.status_code == 201
    body = first.json()
    assert body["id"] == f"{ACCOUNT}/deployments/mine"
    assert (body["sku"], body["tags"]) == (sku, {"team": "a"})
    assert body["properties"]["model"] == {"format": "OpenAI", "name": "tiny", "version": "1"}
    assert body["properties"]["provisioningState"] == "Succeeded"
    again = put(client, sku=sku, tags={"team": "a"})
    assert (again.status_code, again.json()) == (200, body)
    assert client.get(f"{ACCOUNT}/deployments/mine").json() == body
    assert client.get("/v1/deployments/mine").json()["tier"] == "standard"


def test_a_patch_changes_what_it_names(client):
    put(client, "patched", sku={"name": "Standard", "capacity": 2})
    patched = client.patch(f"{ACCOUNT}/deployments/patched", json={"tags": {"k": "v"}}).json()
    assert (patched["sku"]["capacity"], patched["tags"]) == (2, {"k": "v"})
    patched = client.patch(f"{ACCOUNT}/deployments/patched", json={"sku": {"name": "developertier"}}).json()
    assert (patched["sku"], patched["tags"]) == ({"name": "developertier", "capacity": 1}, {"k": "v"})
    assert client.get("/v1/deployments/patched").json()["tier"] == "developer"


def test_deleting_what_is_not_there_is_no_error(client):
    put(client, "gone")
    assert [client.delete(f"{ACCOUNT}/deployments/gone").status_code for _ in range(2)] == [200, 204]


def test_settings_that_have_no_meaning_here_are_passed_over(client):
    model = {"format": "OpenAI", "name": "tiny", "version": "2", "publisher": "OpenAI"}
    properties = {"model": model, "versionUpgradeOption": "NoAutoUpgrade", "raiPolicyName": "Microsoft.Default", "scaleSettings": {"capacity": 1}}
    answer = client.put(f"{ACCOUNT}/deployments/settings", json={"sku": {"name": "STANDARD", "tier": "Standard"}, "properties": properties})
    assert (answer.status_code, answer.json()["properties"]["model"]["version"]) == (201, "2")


@pytest.mark.parametrize(
    ("path", "change", "status", "code", "said"),
    [
        ("mine", {"sku": {"name": "ProvisionedManaged"}}, 400, "InvalidRequestContent", "DeveloperTier"),
        ("mine", {"properties": {}}, 400, "InvalidRequestContent", "properties.model"),
        ("no name", {}, 400, "InvalidRequestContent", "no name for a deployment"),
        ("smollm2-135m-instruct", {}, 409, "Conflict", "is the name of a model"),
        ("mine", {"properties": {"model": {"name": "gpt-9"}}}, 404, "ResourceNotFound", "gpt-9"),
    ],
)
def test_refusals_have_the_management_planes_form(client, path, change, status, code, said):
    answer = put(client, path, **change)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert said in error["message"]
    assert error.keys() == {"code", "message", "target", "details", "additionalInfo"}


@pytest.mark.parametrize(
    ("version", "code"),
    [(None, "MissingApiVersionParameter"), ("latest", "UnsupportedApiVersionValue"), ("2025-13-40", "UnsupportedApiVersionValue")],
)
@pytest.mark.parametrize("path", [f"{ACCOUNT}/deployments", "/openai/deployments/tiny/chat/completions", f"{ACCOUNT}/models"])
def test_a_version_must_be_named_and_be_a_date(client, version, code, path):
    client.params = {} if version is None else {"api-version": version}
    answer = client.request("POST" if "chat" in path else "GET", path, json={})
    client.params = VERSION
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_keys_are_needed_and_a_key_to_read_does_not_change(client):
    reader = {"api-key": client.reader, "authorization": ""}
    assert client.get(f"{ACCOUNT}/deployments", headers=reader).status_code == 200
    refused = client.delete(f"{ACCOUNT}/deployments/mine", headers=reader)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "AuthorizationFailed")
    unknown = client.get(f"{ACCOUNT}/deployments", headers={"authorization": "Bearer none-such"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (401, "InvalidAuthenticationToken")
    assert client.get(f"{ACCOUNT}/nothing").json()["error"]["code"] == "ResourceNotFound"


def test_the_account_lists_how_its_models_are_deployed(client):
    models = {m["name"]: m for m in client.get(f"{ACCOUNT}/models").json()["value"]}
    assert [s["name"] for s in models["tiny"]["skus"]] == ["Standard", "GlobalStandard", "DeveloperTier"]

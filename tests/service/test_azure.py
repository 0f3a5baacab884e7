"""Azure's dialect through Azure's own clients: a real server, a real engine."""
import pytest
from openai import AzureOpenAI, NotFoundError
from running import ADMIN_KEY
from test_inference import ASK, chat
from test_jobs import ended, start

LEARNT = {"n_epochs": 40, "batch_size": 4, "learning_rate_multiplier": 5}  # enough to know the few lines by heart


@pytest.fixture(scope="module")
def azure(server):
    with AzureOpenAI(azure_endpoint=server.url, api_key=ADMIN_KEY, api_version="2024-10-21", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def tuned(client):
    return ended(client, start(client, hyperparameters=LEARNT).id).fine_tuned_model


def test_a_deployment_answers_by_its_name_in_every_dialect(server, client, azure, tuned):
    http = server.http()
    made = http.post("/v1/deployments", json={"name": "mine", "model": tuned}).raise_for_status().json()
    assert (made["object"], made["model"], made["tier"], made["called_at"]) == ("deployment", tuned, "standard", None)
    by_azure = chat(azure, model="mine")
    assert (by_azure.choices[0].message.content.startswith("It is"), by_azure.model) == (True, tuned)
    for path in ("/v1", "/openai/v1"):
        answer = http.post(f"{path}/chat/completions", json={"model": "mine", "messages": ASK, "temperature": 0, "max_tokens": 12})
        assert answer.json()["choices"][0]["message"]["content"] == by_azure.choices[0].message.content
    assert http.get("/v1/deployments/mine").json()["called_at"] >= made["created_at"]
    assert [d["name"] for d in http.get("/openai/v1/deployments").json()["data"]] == ["mine"]
    refused = http.delete(f"/v1/models/{tuned}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "model_deployed")
    assert http.delete("/v1/deployments/mine").json() == {"id": "mine", "object": "deployment", "deleted": True}
    with pytest.raises(NotFoundError, match="deployment 'mine' does not exist") as gone:
        chat(azure, model="mine")
    assert gone.value.code == "DeploymentNotFound"
    assert chat(azure, model=tuned).choices[0].message.content == by_azure.choices[0].message.content

"""Azure's dialect through Azure's own clients: a real server, a real engine."""
import csv
import io
import time

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient
from azure.mgmt.cognitiveservices.models import (
    Deployment,
    DeploymentModel,
    DeploymentProperties,
    PatchResourceTagsAndSku,
    Sku,
)
from openai import AzureOpenAI, NotFoundError
from running import ADMIN_KEY
from test_files import training_lines
from test_inference import ASK, chat
from test_jobs import ended

LEARNT = {"n_epochs": 40, "batch_size": 4, "learning_rate_multiplier": 5}  # enough to know the few lines by heart


@pytest.fixture(scope="module")
def azure(server):
    with AzureOpenAI(azure_endpoint=server.url, api_key=ADMIN_KEY, api_version="2024-10-21", max_retries=0) as client:
        yield client


class OurKey:
    """What azure-identity's credentials are for Azure: the token is our API key."""

    def get_token(self, *scopes, **options):
        return AccessToken(ADMIN_KEY, int(time.time()) + 3600)


@pytest.fixture(scope="module")
def management(server):
    with CognitiveServicesManagementClient(OurKey(), "sub", base_url=server.url, polling_interval=0.1) as client:
        yield client


@pytest.fixture(scope="module")
def job(azure):
    """From a file to a model, through Azure's dated paths alone."""
    file = azure.files.create(file=("train.jsonl", training_lines()), purpose="fine-tune")
    assert azure.files.wait_for_processing(file.id, poll_interval=0.1).status == "processed"
    job = azure.fine_tuning.jobs.create(
        model="tiny", training_file=file.id, hyperparameters=LEARNT, seed=7, extra_body={"trainingType": "Standard"}
    )
    assert job.status in ("created", "pending", "running")
    return ended(azure, job.id)


@pytest.fixture(scope="module")
def tuned(job):
    return job.fine_tuned_model


def test_azures_client_goes_from_a_file_to_a_model_on_dated_paths(azure, job):
    assert job.status == "succeeded", job.error
    jobs = azure.fine_tuning.jobs
    assert [j.id for j in jobs.list()] == [job.id]
    messages = [event.message for event in jobs.list_events(job.id, limit=5)]
    assert messages[0] == "The job has successfully completed"
    assert len(messages) > 100  # pages end, and miss nothing
    first = list(jobs.checkpoints.list(job.id))[-1]
    assert first.fine_tuned_model_checkpoint == f"{job.fine_tuned_model}:ckpt-step-3"
    table = list(csv.DictReader(io.StringIO(azure.files.content(job.result_files[0]).text)))
    assert list(table[0])[-2:] == ["full_valid_loss", "full_valid_mean_token_accuracy"]
    assert [row["step"] for row in table[:3]] == ["1", "2", "3"]
    assert azure.files.retrieve(job.result_files[0]).filename == "results.csv"
    assert {"tiny", job.fine_tuned_model} <= {m.id for m in azure.models.list()}


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


def test_azures_management_client_deploys_lists_and_deletes(management, azure, tuned):
    checkpoint = f"{tuned}:ckpt-step-120"
    account = {"resource_group_name": "group", "account_name": "account", "enforce_https": False}  # no certificate in a test
    wanted = Deployment(
        sku=Sku(name="DeveloperTier", capacity=10), properties=DeploymentProperties(model=DeploymentModel(format="OpenAI", name=checkpoint, version="1"))
    )
    deployments = management.deployments
    made = deployments.begin_create_or_update(deployment_name="managed", deployment=wanted, **account).result()
    assert (made.properties.provisioning_state, made.properties.model.name, made.sku.capacity) == ("Succeeded", checkpoint, 10)
    assert chat(azure, model="managed").choices[0].message.content.startswith("It is")
    patch = PatchResourceTagsAndSku(tags={"k": "v"})
    assert deployments.begin_update(deployment_name="managed", deployment=patch, **account).result().tags == {"k": "v"}
    assert deployments.get(deployment_name="managed", **account).id.endswith("/accounts/account/deployments/managed")
    assert [d.name for d in deployments.list(**account)] == ["managed"]
    models = {m.name: m for m in management.accounts.list_models(**account)}
    assert models[tuned].base_model.name == "tiny"
    assert "fineTune" in models["tiny"].capabilities
    assert any(m.model.name == "gpt-4o" for m in management.models.list("northcentralus", enforce_https=False))
    taken = {"deployment_name": "smollm2-135m-instruct", "deployment": wanted}
    with pytest.raises(ResourceExistsError, match="is the name of a model"):
        deployments.begin_create_or_update(**taken, **account)
    deployments.begin_delete(deployment_name="managed", **account).result()
    with pytest.raises(ResourceNotFoundError, match="no deployment 'managed'"):
        deployments.get(deployment_name="managed", **account)

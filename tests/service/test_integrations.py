"""Metrics on their way from a real server to wandb (offline), MLflow and TensorBoard, over a kill of the server."""
import warnings

import pytest
from mlflow.tracking import MlflowClient
from openai import BadRequestError, OpenAI
from running import ADMIN_KEY, Server, wait_until
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_files import training_lines, upload
from test_jobs import ended, start, trains

from feinschliff.providers.trackers.wandb_run import OFFLINE, _log

STEPS = {"n_epochs": 30, "batch_size": 3}  # of 12 examples: 120 steps
NOWHERE = "http://127.0.0.1:9"  # nobody listens there
WANDB = {"type": "wandb", "wandb": {"project": "trials", "tags": ["a"]}}
MLFLOW = {"type": "mlflow", "mlflow": {"experiment": "trials"}}
TENSORBOARD = {"type": "tensorboard", "tensorboard": {"log_dir": "mine"}}
BROKEN = {"type": "mlflow", "mlflow": {"experiment": "trials", "tags": {}, "tracking_uri": NOWHERE}}


@pytest.fixture(scope="module")
def tracking(tmp_path_factory, tiny_model):
    server = Server(tmp_path_factory.mktemp("tracking"), "--model", f"tiny={tiny_model}", "--track-to", NOWHERE, WANDB_MODE="offline").start()
    yield server
    server.stop()


def unchecked(server):
    """The contract knows wandb alone."""
    return OpenAI(base_url=f"{server.url}/v1", api_key=ADMIN_KEY)


def warned(client, job_id):
    return [e.message for e in client.fine_tuning.jobs.list_events(job_id, limit=1000) if e.level == "warn"]


def in_mlflow(server):
    file = server.data / "mlflow" / "mlflow.sqlite"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = MlflowClient(f"sqlite:///{file}")
        (run,) = client.search_runs([client.get_experiment_by_name("trials").experiment_id])
    return run, client.get_metric_history(run.info.run_id, "train_loss")


def test_every_step_arrives_once_and_a_broken_integration_is_a_warning(tracking):
    valid = upload(tracking.client(), training_lines(10))
    client = unchecked(tracking)
    job = start(
        client, hyperparameters=STEPS, validation_file=valid.id,
        extra_body={"integrations": [WANDB, MLFLOW, TENSORBOARD, BROKEN]},
    )  # fmt: skip
    trains(client, job.id, beyond=5)
    folder = tracking.data / "tensorboard" / tracking.project_of(ADMIN_KEY) / "mine" / job.id
    wait_until(lambda: any(folder.glob("events*")))
    tracking.kill()
    tracking.start()
    client = unchecked(tracking)
    done = ended(client, job.id)
    assert done.status == "succeeded"
    shown = tracking.http().get(f"/v1/fine_tuning/jobs/{job.id}").json()["integrations"]
    assert shown == [WANDB, MLFLOW | {"mlflow": {"experiment": "trials", "tags": {}}}, TENSORBOARD, BROKEN]

    everything = list(range(1, 121))
    wait_until(lambda: in_mlflow(tracking)[0].info.status == "FINISHED", every_s=0.5)
    run, history = in_mlflow(tracking)
    assert sorted(m.step for m in history) == everything
    assert run.data.tags["fine_tuned_model"] == done.fine_tuned_model
    assert {"train_loss", "learning_rate", "grad_norm", "train_mean_token_accuracy", "full_valid_loss"} <= set(run.data.metrics)

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    wait_until(lambda: "status" in events.Reload().Tags()["tensors"], every_s=0.5)
    assert sorted(e.step for e in events.Tensors("train_loss")) == everything
    assert len(events.Tensors("full_valid_loss")) == 30  # one an epoch

    wandb = tracking.data / "runs" / job.id / "wandb"
    wait_until(lambda: any(_log(file).finished for file in wandb.glob(OFFLINE)), every_s=0.5)
    assert sorted(step for file in wandb.glob(OFFLINE) for step in _log(file).steps) == everything

    (told,) = wait_until(lambda: warned(client, job.id))
    assert "mlflow does not work" in told
    assert "See that the MLflow tracking server answers" in told


def test_the_clients_own_integration_is_shown_as_the_contract_has_it(tracking, contract):
    client = tracking.client()
    job = start(client, integrations=[WANDB])
    assert job.integrations[0].wandb.project == "trials"
    client.fine_tuning.jobs.cancel(job.id)


@pytest.mark.parametrize(
    ("integration", "message"),
    [
        ({"type": "wandb"}, "wandb"),
        ({"type": "wandb", "wandb": {"project": "p", "api_key": "secret"}}, "api_key"),
        ({"type": "comet", "comet": {}}, "wandb"),
        ({"type": "mlflow", "mlflow": {"tracking_uri": "http://169.254.169.254/"}}, "--track-to"),
        ({"type": "mlflow", "mlflow": {"tracking_uri": "file:///etc"}}, "tracking_uri"),
        ({"type": "mlflow", "mlflow": {"tracking_uri": "http://me:secret@127.0.0.1:9"}}, "tracking_uri"),
        ({"type": "tensorboard", "tensorboard": {"log_dir": "../other"}}, "log_dir"),
        ({"type": "tensorboard", "tensorboard": {"log_dir": "/tmp"}}, "log_dir"),
    ],
)
def test_what_cannot_be_tracked_is_refused(tracking, integration, message):
    client = tracking.client()
    with pytest.raises(BadRequestError, match=message):
        client.fine_tuning.jobs.create(model="tiny", training_file=upload(client).id, extra_body={"integrations": [integration]})

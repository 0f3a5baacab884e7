"""Jobs that start from a tuned model or a checkpoint, through the official client."""
import pytest
from openai import ConflictError, NotFoundError
from test_files import training_lines, upload
from test_jobs import ended

METHOD = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4, "batch_size": 12, "learning_rate_multiplier": 20.0}}}


def start(client, model, file, **more):
    return client.fine_tuning.jobs.create(model=model, training_file=file, method=METHOD, seed=7, **more)


def losses(client, job_id):
    return [e.data["train_loss"] for e in client.fine_tuning.jobs.list_events(job_id, limit=100) if e.type == "metrics"][::-1]


@pytest.fixture(scope="module")
def parent(client):
    file = upload(client, training_lines(12)).id
    return ended(client, start(client, "tiny", file, validation_file=file).id)


def test_a_job_goes_on_where_its_parent_ended(server, client, parent):
    job = start(client, parent.fine_tuned_model, parent.training_file, suffix="further")
    assert job.model == parent.fine_tuned_model
    with pytest.raises(NotFoundError):
        start(client, parent.fine_tuned_model + "x", parent.training_file)
    job = ended(client, job.id)
    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model.startswith("ft:tiny:local:further:")
    (last, *_) = client.fine_tuning.jobs.checkpoints.list(parent.id).data
    assert losses(client, job.id)[0] == pytest.approx(last.metrics.full_valid_loss, rel=0.02)  # products may be in bfloat16
    assert losses(client, job.id)[0] < losses(client, parent.id)[0]
    answer = client.chat.completions.create(model=job.fine_tuned_model, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
    assert answer.model == job.fine_tuned_model
    card = (server.data / "runs" / job.id / "model" / "README.md").read_text(encoding="utf-8")
    assert f"| Started from | `{parent.fine_tuned_model}` (trained on `{parent.training_file}`" in card
    assert "| Method | LoRA, rank 16, alpha 32 |" in card
    assert "base_model: tiny\n" in card


def test_a_checkpoint_is_a_start_and_its_model_stays_until_it_has_been_copied(client, parent):
    checkpoint = f"{parent.fine_tuned_model}:ckpt-step-2"
    waiting = start(client, checkpoint, parent.training_file)
    client.fine_tuning.jobs.pause(waiting.id)  # sooner than its file can be read
    with pytest.raises(ConflictError, match="is to start from"):
        client.models.delete(checkpoint)
    client.fine_tuning.jobs.resume(waiting.id)
    assert ended(client, waiting.id).status == "succeeded"
    assert client.models.delete(checkpoint).deleted

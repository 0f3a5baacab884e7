"""Fine-tuning jobs through the official client, a real server and the real training program."""
import csv
import io
import random
import time
from contextlib import suppress

import pytest
from openai import APIConnectionError, BadRequestError, ConflictError, NotFoundError
from running import Server, children_of, wait_until
from test_files import processed, training_lines, upload

ENDED = ("succeeded", "failed", "cancelled")
SHORT = {"n_epochs": 2, "batch_size": 4}
LONG = {"n_epochs": 50, "batch_size": 1}
MANY = {"n_epochs": 50, "batch_size": 2}  # of 40 examples: 1,000 steps, long enough to come between


def start(client, *, n=12, hyperparameters=None, **more):
    file = upload(client, training_lines(n))
    method = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters or SHORT}}
    return client.fine_tuning.jobs.create(model="tiny", training_file=file.id, method=method, seed=7, **more)


def ended(client, job_id, *, seconds=120):
    return wait_until(lambda: (j := client.fine_tuning.jobs.retrieve(job_id)).status in ENDED and j, seconds=seconds, every_s=0.3)


def steps_of(client, job_id):
    return [e.data["step"] for e in client.fine_tuning.jobs.list_events(job_id, limit=1000) if e.type == "metrics"][::-1]


def weights(server, job_id):
    return (server.data / "runs" / job_id / "model" / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def done(client):
    """A job with a validation file, ended."""
    valid = upload(client, training_lines(10))
    return ended(client, start(client, validation_file=valid.id, suffix="first", metadata={"team": "a"}).id)


def test_the_whole_way_from_a_file_to_a_model(server, client, done, contract):
    assert done.status == "succeeded", done.error
    assert done.fine_tuned_model.startswith("ft:tiny:local:first:")
    assert (done.seed, done.metadata, done.trained_tokens > 0) == (7, {"team": "a"}, True)
    assert done.method.supervised.hyperparameters.n_epochs == 2
    assert steps_of(client, done.id) == [1, 2, 3, 4, 5, 6]
    messages = [e.message for e in client.fine_tuning.jobs.list_events(done.id, limit=100)][::-1]
    assert messages[:4] == [
        f"Created fine-tuning job: {done.id}", f"Validating training file: {done.training_file}",
        "Files validated, moving job to queued state", "Fine-tuning job started",
    ]  # fmt: skip
    assert messages[-3] == f"Checkpoint created at step 6: {done.fine_tuned_model}:ckpt-step-6"
    assert messages[-2:] == [f"New fine-tuned model created: {done.fine_tuned_model}", "The job has successfully completed"]
    assert "Step 3/6: training loss=" in " ".join(messages)
    assert weights(server, done.id)


def test_checkpoints_are_models_with_metrics(client, done):
    last, first = client.fine_tuning.jobs.checkpoints.list(done.id).data
    assert (first.step_number, last.step_number) == (3, 6)
    assert first.metrics.full_valid_loss > 0
    assert first.fine_tuned_model_checkpoint == f"{done.fine_tuned_model}:ckpt-step-3"
    names = [m.id for m in client.models.list()]
    assert {"tiny", done.fine_tuned_model, first.fine_tuned_model_checkpoint} <= set(names)
    assert client.models.retrieve(done.fine_tuned_model).owned_by == "local"


def test_results_are_a_file(client, done):
    rows = list(csv.DictReader(io.StringIO(client.files.content(done.result_files[0]).text)))
    assert [r["step"] for r in rows] == ["1", "2", "3", "4", "5", "6"]
    assert [bool(r["valid_loss"]) for r in rows] == [False, False, True] * 2
    assert client.files.retrieve(done.result_files[0]).purpose == "fine-tune-results"


def test_lists_are_paged_and_filtered(client, done):
    other = start(client, metadata={"team": "b"})
    client.fine_tuning.jobs.cancel(other.id)
    assert [j.id for j in client.fine_tuning.jobs.list(limit=1)][:2] == [other.id, done.id]
    found = client.fine_tuning.jobs.list(metadata={"team": "a"})
    assert [j.id for j in found] == [done.id]
    assert len(list(client.fine_tuning.jobs.list_events(done.id, limit=3))) > 6


def test_what_is_left_to_auto_is_resolved_and_told(client):
    job = ended(client, client.fine_tuning.jobs.create(model="tiny", training_file=upload(client).id, hyperparameters={"n_epochs": 1}).id)
    assert job.status == "succeeded", job.error
    assert isinstance(job.hyperparameters.batch_size, int)
    assert job.hyperparameters.learning_rate_multiplier == 1.0


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"method": {"type": "dpo"}}, BadRequestError, "this system is for supervised fine-tuning"),
        ({"model": "gpt-9"}, NotFoundError, "Models: tiny"),
        ({"training_file": "file-none"}, NotFoundError, "No such File"),
        ({"suffix": "x" * 65}, BadRequestError, "suffix"),
        ({"metadata": {"k": "v" * 513}}, BadRequestError, "metadata"),
        ({"hyperparameters": {"n_epochs": 51}}, BadRequestError, "n_epochs"),
        ({"extra_body": {"modle": 1}}, BadRequestError, "modle"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(client, change, kind, message):
    file = upload(client)
    with pytest.raises(kind, match=message):
        client.fine_tuning.jobs.create(**({"model": "tiny", "training_file": file.id} | change))


def test_blocks_of_other_methods_beside_supervised_are_passed_over(client):
    method = {"type": "supervised", "supervised": {"hyperparameters": SHORT}, "dpo": {"hyperparameters": {"beta": 1}}}
    job = client.fine_tuning.jobs.create(model="tiny", training_file=upload(client).id, method=method)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"


def test_a_bad_file_fails_the_job_with_every_finding(client):
    lines = training_lines(12).splitlines(keepends=True)
    lines[3] = b'{"messages": "none"}\n'
    job = ended(client, client.fine_tuning.jobs.create(model="tiny", training_file=upload(client, b"".join(lines)).id).id)
    assert (job.status, job.error.code, job.error.param) == ("failed", "invalid_training_file", "training_file")
    assert "line 4" in job.error.message


def test_the_same_request_again_is_the_same_job(client):
    file = upload(client)
    headers = {"Idempotency-Key": "once"}
    first, again = (
        client.fine_tuning.jobs.create(model="tiny", training_file=file.id, suffix="s", extra_headers=headers) for _ in range(2)
    )
    assert first.id == again.id
    with pytest.raises(ConflictError):
        client.fine_tuning.jobs.create(model="tiny", training_file=file.id, suffix="t", extra_headers=headers)
    client.fine_tuning.jobs.cancel(first.id)


def trains(client, job_id, beyond=1):
    wait_until(lambda: max(steps_of(client, job_id), default=0) > beyond, every_s=0.2)


def test_a_cancelled_job_stops_and_is_counted(server, client):
    job = start(client, hyperparameters=LONG)
    trains(client, job.id)
    assert client.fine_tuning.jobs.cancel(job.id).trained_tokens > 0
    wait_until(lambda: not (server.data / "runs" / job.id / "program").exists())
    with pytest.raises(ConflictError):
        client.fine_tuning.jobs.cancel(job.id)


@pytest.fixture(scope="module")
def undisturbed(server, client):
    """The weights of the job that others are compared with."""
    job = ended(client, start(client, n=40, hyperparameters=MANY).id)
    return weights(server, job.id)


def test_a_paused_job_goes_on_to_the_same_weights(server, client, undisturbed):
    job = start(client, n=40, hyperparameters=MANY)
    trains(client, job.id)
    assert client.fine_tuning.jobs.pause(job.id).status == "queued"
    wait_until(lambda: not (server.data / "runs" / job.id / "program").exists())
    with pytest.raises(ConflictError):
        client.fine_tuning.jobs.cancel(ended(client, client.fine_tuning.jobs.resume(job.id).id).id)
    assert weights(server, job.id) == undisturbed
    assert steps_of(client, job.id) == list(range(1, 1001))


@pytest.mark.parametrize("victims", [*(pytest.param(one, marks=pytest.mark.long) for one in ("server", "program")), "both"])  # test_kills has all
def test_a_kill_loses_nothing_and_tells_nothing_twice(victims, tiny_model, tmp_path, undisturbed):
    server = Server(tmp_path, "--model", f"tiny={tiny_model}").start()
    client = server.client()
    job = start(client, n=40, hyperparameters=MANY)
    trains(client, job.id, beyond={"server": 3, "program": 100, "both": 200}[victims])
    programs = children_of(server.process.pid)
    if victims != "program":
        server.kill()
    if victims != "server":
        for pid in programs:
            server.kill_process(pid)
    client = server.start().client() if victims != "program" else client
    assert ended(client, job.id).status == "succeeded"
    assert steps_of(client, job.id) == list(range(1, 1001))
    assert weights(server, job.id) == undisturbed
    server.stop()


def test_projects_do_not_see_each_others_jobs_and_models(server, client, done):
    other = server.client(server.run("keys", "create", "other", "--project", "elsewhere"))
    with pytest.raises(NotFoundError):
        other.fine_tuning.jobs.retrieve(done.id)
    assert [j.id for j in other.fine_tuning.jobs.list()] == []
    assert [m.id for m in other.models.list() if m.id.startswith("ft:")] == []


def test_a_checkpoint_can_be_granted_to_another_project(server, client, done):
    key = server.run("keys", "create", "friend", "--project", "friends")
    friend, checkpoint = server.client(key), f"{done.fine_tuned_model}:ckpt-step-3"
    with pytest.raises(NotFoundError):
        friend.models.retrieve(checkpoint)
    project = server.project_of(key)
    (given,) = client.fine_tuning.checkpoints.permissions.create(checkpoint, project_ids=[project])
    assert friend.models.retrieve(checkpoint).id == checkpoint
    assert client.fine_tuning.checkpoints.permissions.delete(given.id, fine_tuned_model_checkpoint=checkpoint).deleted
    with pytest.raises(NotFoundError):
        friend.models.retrieve(checkpoint)


def test_permissions_are_listed_by_project_page_by_page(server, client, done):
    checkpoint, permissions = f"{done.fine_tuned_model}:ckpt-step-3", client.fine_tuning.checkpoints.permissions
    first, second = (server.project_of(server.run("keys", "create", name, "--project", name)) for name in ("near", "far"))
    granted = [permissions.create(checkpoint, project_ids=[project]).data[0] for project in (first, second)]
    (found,) = permissions.list(checkpoint, project_id=first, limit=1)  # the newest of all is the other project's
    assert found.id == granted[0].id
    assert [p.id for p in permissions.list(checkpoint, limit=1)] == [p.id for p in reversed(granted)]
    for permission in granted:
        permissions.delete(permission.id, fine_tuned_model_checkpoint=checkpoint)


def test_a_deleted_model_is_gone_and_base_models_stay(server, client):
    job = ended(client, start(client).id)
    assert client.models.delete(job.fine_tuned_model).deleted
    assert client.models.delete(f"{job.fine_tuned_model}:ckpt-step-6").deleted
    with pytest.raises(NotFoundError):
        client.models.retrieve(job.fine_tuned_model)
    assert not (server.data / "runs" / job.id / "model").exists()
    with pytest.raises(ConflictError):
        client.models.delete("tiny")


def test_files_are_waited_for(client):
    file = upload(client)
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file.id, method={"type": "supervised", "supervised": {"hyperparameters": SHORT}})
    assert job.status == "validating_files"
    assert processed(client, file.id).status == "processed"
    client.fine_tuning.jobs.cancel(job.id)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_fifty_kills_at_random_points(tiny_model, tmp_path, undisturbed):
    """Uploads, jobs' states and training in turn: every job ends as it would have, none is lost, none is made twice."""
    chance = random.Random(11)
    server = Server(tmp_path, "--model", f"tiny={tiny_model}").start()
    kills, jobs = 0, []
    while kills < 50:
        client = server.client()
        if not jobs or client.fine_tuning.jobs.retrieve(jobs[-1]).status in ENDED:
            with suppress(APIConnectionError):
                jobs.append(start(client, n=40, hyperparameters=MANY).id)
        time.sleep(chance.uniform(0, 8))
        programs = children_of(server.process.pid)
        server.kill()
        kills += 1
        if chance.random() < 0.5:
            for pid in programs:
                server.kill_process(pid)
        server.start()
    client = server.client()
    for job_id in jobs:
        assert ended(client, job_id).status == "succeeded"
        assert weights(server, job_id) == undisturbed
        assert steps_of(client, job_id) == list(range(1, 1001))
    assert [j.id for j in client.fine_tuning.jobs.list(limit=100)][::-1] == jobs
    server.stop()

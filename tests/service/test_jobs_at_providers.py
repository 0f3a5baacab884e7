"""Jobs that the service has trained elsewhere: another `feinschliff serve` is the OpenAI account and the Azure resource."""
import os
import signal

import pytest
from openai import BadRequestError, UnprocessableEntityError
from running import ADMIN_KEY, Server, children_of, wait_until
from test_files import training_lines

from ray_cluster import free_port
from remote_settings import KEY, account, hosted_model, price, resource

pytestmark = pytest.mark.timeout(600)
PATIENCE_S = 200  # for what takes seconds on a machine of one's own
SHORT = {"n_epochs": 2, "batch_size": 20}  # 6 steps
LONG = {"n_epochs": 50, "batch_size": 1}  # 3,000 steps
SOME = {"n_epochs": 5, "batch_size": 2}  # 150


class Pair:
    """The service on this side; on the other the provider, on a port that stays its own."""

    def __init__(self, folder, model):
        for name in ("far", "near", "settings"):
            (folder / name).mkdir()
        self.far = Server(folder / "far", "--model", f"far={model}", "--port", str(free_port())).start()
        texts = {
            "regions": resource(self.far.url) + account(self.far.url), "models": hosted_model("far") + hosted_model("far", "openai", "2"),
            "prices": price("far") + price("far", "openai", "2"),
        }  # fmt: skip
        for name, text in texts.items():
            (folder / "settings" / f"{name}.toml").write_text(text, encoding="utf-8")
        self.near = Server(folder / "near", FEINSCHLIFF_CONFIG=str(folder / "settings"), **{KEY: ADMIN_KEY}).start()
        self.file = self.send()

    def send(self, **more):
        return self.near.client().files.create(file=("train.jsonl", training_lines(60)), purpose="fine-tune", **more).id

    def create(self, region, chosen, seed, **more):
        method = {"type": "supervised", "supervised": {"hyperparameters": chosen}}
        given = {"model": "far", "training_file": self.file, "seed": seed, "method": method, "extra_body": {"region": region}}
        return self.near.client().fine_tuning.jobs.create(**{**given, **more}).id

    def job(self, job):
        return self.near.client().fine_tuning.jobs.retrieve(job)

    def events(self, job):
        return [e.message for e in self.near.client().fine_tuning.jobs.list_events(job, limit=500).data][::-1]

    def ended(self, job):
        return wait_until(lambda: (found := self.job(job)).status in ("succeeded", "failed", "cancelled") and found, seconds=PATIENCE_S)

    def there(self):
        """The provider's jobs, newest first."""
        return self.far.client().fine_tuning.jobs.list(limit=100).data

    def trains(self, job):
        """Until steps of it are told here."""
        wait_until(lambda: any(e.startswith("Step 2/") for e in self.events(job)), seconds=PATIENCE_S)

    def kill(self):
        """The service with its programs, as when a machine goes; then it comes again."""
        programs = children_of(self.near.process.pid)
        self.near.kill()
        for pid in programs:
            self.near.kill_process(pid)
        self.near.start()

    def stop(self):
        self.near.stop()
        self.far.stop()


@pytest.fixture(scope="module")
def pair(tmp_path_factory, tiny_model):
    pair = Pair(tmp_path_factory.mktemp("pair"), tiny_model)
    yield pair
    pair.stop()


@pytest.mark.parametrize("region", ["resource", "account"])
def test_a_job_is_trained_there_and_told_of_here(pair, region):
    n = len(pair.there())
    job = pair.ended(pair.create(region, SHORT, seed=1, suffix="far"))
    assert job.status == "succeeded", (job.error, pair.events(job.id))
    (there, *_) = pair.there()
    assert len(pair.there()) == n + 1
    assert (there.status, there.model, job.model) == ("succeeded", "far", "far")
    assert job.trained_tokens == there.trained_tokens > 0
    told = pair.events(job.id)
    assert "Files validated, moving job to queued state" in told
    assert any(message.startswith("Step 6/6: training loss=") for message in told)
    assert f"{region} keeps the model by the name {there.fine_tuned_model}, of its job {there.id}" in told
    assert told.count("The job has successfully completed") == 2  # the provider's word, and ours
    checkpoints = pair.near.client().fine_tuning.jobs.checkpoints.list(job.id).data
    assert {c.step_number for c in checkpoints} == {3, 6}
    cost = pair.near.http().get(f"/v1/fine_tuning/jobs/{job.id}/cost").json()
    assert (cost["region"], cost["currency"]) == (region, "USD")
    assert cost["training"]["amount"] == pytest.approx(job.trained_tokens * 20 / 1e6)
    assert cost["total"] == cost["training"]["amount"]


def test_a_model_that_is_kept_there_is_not_asked_here(pair):
    job = pair.ended(pair.create("resource", SHORT, seed=2))
    name = pair.there()[0].fine_tuned_model
    client = pair.near.client()
    with pytest.raises(BadRequestError, match=f"kept in the region resource, by the name {name}.*jobs ask {name}"):
        client.chat.completions.create(model=job.fine_tuned_model, messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(BadRequestError, match="kept in the region resource"):
        pair.create("resource", SHORT, seed=2, model=job.fine_tuned_model)
    deployed = pair.near.http().post("/v1/deployments", json={"name": "mine", "model": job.fine_tuned_model})
    assert (deployed.status_code, deployed.json()["error"]["code"]) == (400, "model_elsewhere")


def test_what_cannot_be_there_is_refused_at_once(pair):
    stays = pair.send(extra_body={"stays_in": ["local", "Sweden Central"]})
    n = len(pair.there())
    with pytest.raises(UnprocessableEntityError, match="must stay in Sweden Central, local; account is elsewhere"):
        pair.create("account", SHORT, seed=3, training_file=stays)
    with pytest.raises(UnprocessableEntityError, match="is not tuned in resource"):
        pair.create("resource", SHORT, seed=3, model="smollm2-135m-instruct")
    with pytest.raises(UnprocessableEntityError, match=r"far .*is not tuned in local"):
        pair.create("local", SHORT, seed=3)
    assert len(pair.there()) == n
    assert pair.ended(pair.create("Sweden Central", SHORT, seed=3, training_file=stays)).status == "succeeded"


def test_cancelled_here_is_cancelled_there_even_if_it_cannot_be_told_at_once(pair):
    n = len(pair.there()) + 1
    job = pair.create("resource", LONG, seed=4)
    pair.trains(job)
    provider = [pair.far.process.pid, *children_of(pair.far.process.pid)]
    for pid in provider:
        os.kill(pid, signal.SIGSTOP)  # it answers nobody
    try:
        assert pair.near.client().fine_tuning.jobs.cancel(job).status == "cancelled"
        pair.kill()
    finally:
        for pid in provider:
            os.kill(pid, signal.SIGCONT)
    there = wait_until(lambda: (found := pair.there()[0]).status == "cancelled" and found, seconds=PATIENCE_S)
    wait_until(lambda: (pair.job(job).trained_tokens or 0) == there.trained_tokens > 0, seconds=PATIENCE_S)
    assert any(f"resource had trained {there.trained_tokens:,} tokens by then" in e for e in pair.events(job))
    assert len(pair.there()) == n
    assert not list((pair.near.data / "runs").glob("*/elsewhere"))


@pytest.mark.long
def test_paused_here_is_paused_there_and_goes_on(pair):
    n = len(pair.there()) + 1
    job = pair.create("resource", {"n_epochs": 10, "batch_size": 1}, seed=5)
    pair.trains(job)
    client = pair.near.client()
    client.fine_tuning.jobs.pause(job)
    mark = pair.near.data / "runs" / job / "elsewhere"
    wait_until(lambda: mark.read_text() == "rests", seconds=PATIENCE_S)
    steps = len(pair.far.client().fine_tuning.jobs.list_events(pair.there()[0].id, limit=1000).data)
    pair.kill()
    assert len(pair.far.client().fine_tuning.jobs.list_events(pair.there()[0].id, limit=1000).data) == steps
    pair.near.client().fine_tuning.jobs.resume(job)
    assert pair.ended(job).status == "succeeded", pair.events(job)
    assert len(pair.there()) == n


@pytest.mark.parametrize("after", [pytest.param("created", marks=pytest.mark.long), "running"])
def test_the_service_killed_makes_no_second_job(pair, after):
    n = len(pair.there()) + 1
    job = pair.create("resource", SOME, seed=6 if after == "created" else 7)
    if after == "running":
        pair.trains(job)
    pair.kill()
    done = pair.ended(job)
    assert done.status == "succeeded", (done.error, pair.events(job), pair.near.log[-2000:])
    (there, *_) = pair.there()
    assert (there.status, there.trained_tokens, len(pair.there())) == ("succeeded", done.trained_tokens, n)
    told = pair.events(job)
    steps = [e for e in told if e.startswith("Step ")]
    assert len(steps) == len(set(steps)) == 150

"""What a job costs at each point of its life: nothing for waiting and failing, and what its models answer is counted."""
import asyncio
import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from feinschliff.app.usage import Answered, Asked, count, counted, write_counts
from feinschliff.cli.main import app
from feinschliff.core.live import Completed, Piece
from feinschliff.core.service import DEFAULT_PROJECT, JobStatus
from feinschliff.store import jobs
from feinschliff.store.job_usage import usage_of
from feinschliff.store.tables import CheckpointRow, DeploymentRow, ModelRow
from in_process import application

PRICES = """
[machine]
currency = "EUR"
per_hour = 2.0

[[prices]]
provider = "local"
model = "tiny"
currency = "EUR"
hosting_hour = 0.5
input_million_tokens = 1.0
output_million_tokens = 10.0
source = "our own"
read = 2026-06-01
"""
NOW = int(datetime(2026, 6, 15, tzinfo=UTC).timestamp())
TUNED = "ft:tiny:local::abc"


class House:
    """A service with prices and a clock, and one job."""

    def __init__(self, service, client, time):
        self.service, self.client, self.time = service, client, time
        file = client.post("/v1/files", files={"file": ("a.jsonl", b'{"messages": []}\n')}, data={"purpose": "fine-tune"}).json()["id"]
        self.job = client.post("/v1/fine_tuning/jobs", json={"model": "tiny", "training_file": file}).json()["id"]

    def after(self, passed_s, status, **usage):
        """The clock goes on, and the job has come so far."""
        self.time.now += passed_s
        with self.service.database.write() as db:
            row, taken = jobs.job_of(db, self.job), usage_of(db, self.job)
            row.status, row.started_at = status, row.started_at or (self.time.now if usage.get("seconds") else None)
            row.finished_at = self.time.now if JobStatus(status).ended else None
            for name, value in usage.items():
                setattr(taken, name, value)
        return self.cost()

    def cost(self):
        answer = self.client.get(f"/v1/fine_tuning/jobs/{self.job}/cost")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def tuned(self):
        with self.service.database.write() as db:
            row = jobs.job_of(db, self.job)
            row.fine_tuned_model = TUNED
            db.add(ModelRow(name=TUNED, project_id=row.project_id, job_id=row.id, base="tiny", folder="x", step=None, created_at=NOW))
            db.add(CheckpointRow(id="ftckpt_1", job_id=row.id, step=1, model=f"{TUNED}:ckpt-step-1", metrics={}, created_at=NOW))

    def answered(self, model=TUNED, project=DEFAULT_PROJECT):
        count(self.service, Asked(project, model), Answered(2, 3_000_000, 1_000_000, 100_000))
        assert write_counts(self.service)


@pytest.fixture
def house(tmp_path, tiny_model):
    (tmp_path / "prices.toml").write_text(PRICES, encoding="utf-8")
    time = SimpleNamespace(now=NOW)
    with application(tmp_path, config=tmp_path, models={"tiny": tiny_model}, clock=lambda: time.now) as (service, client):
        yield House(service, client, time)


def test_before_while_and_after(house):
    before = house.after(60, JobStatus.QUEUED, expected_tokens=5000, expected_seconds=7200.0)
    assert (before["basis"], before["currency"], before["total"]) == ("estimate", "EUR", 0)
    assert before["training"]["expected_amount"] == pytest.approx(4.0)
    half = house.after(3600, JobStatus.RUNNING, tokens=2500, seconds=3600.0)
    assert (half["basis"], half["training"]["amount"], half["training"]["expected_amount"]) == ("running", pytest.approx(2.0), pytest.approx(4.0))
    paused = house.after(86_400, JobStatus.PAUSED)
    assert paused["training"]["amount"] == pytest.approx(2.0)
    done = house.after(1800, JobStatus.SUCCEEDED, tokens=5000, seconds=5400.0)
    assert (done["basis"], done["total"]) == ("final", pytest.approx(3.0))
    assert done["training"]["expected_tokens"] is None
    assert done["training"]["waited_seconds"] == 60 + 3600 + 86_400 + 1800 - 5400
    house.time.now += 9999  # a job that has ended does not wait any longer
    assert house.cost()["training"]["waited_seconds"] == done["training"]["waited_seconds"]


@pytest.mark.parametrize(("status", "amount"), [(JobStatus.FAILED, 0.0), (JobStatus.CANCELLED, 1.0)])
def test_failed_jobs_are_free_and_cancelled_ones_pay_for_what_was_done(house, status, amount):
    cost = house.after(4000, status, tokens=100, seconds=1800.0)
    assert cost["total"] == pytest.approx(amount)
    assert ("A failed job is free." in cost["notes"]) == (status == JobStatus.FAILED)


def test_answers_of_the_jobs_models_are_added_up_and_those_of_others_are_not(house):
    house.after(10, JobStatus.SUCCEEDED, seconds=1.0)
    house.tuned()
    house.answered()
    house.time.now += 86_400
    house.answered(f"{TUNED}:ckpt-step-1")
    house.answered("tiny")
    cost = house.cost()
    assert cost["inference"] == {
        "requests": 4, "input_tokens": 6_000_000, "cached_tokens": 2_000_000, "output_tokens": 200_000, "amount": pytest.approx(8.0),
    }  # fmt: skip
    assert cost["total"] == pytest.approx(8.0 + 2 / 3600)
    with house.service.database.write() as db:  # also once the model has been deleted
        db.delete(jobs.find_model(db, DEFAULT_PROJECT, TUNED))
    assert house.cost()["inference"]["requests"] == 4


def test_hosting_is_by_the_hour_of_deployments(house):
    house.after(10, JobStatus.SUCCEEDED)
    house.tuned()
    with house.service.database.write() as db:
        for tier in ("standard", "developer"):
            db.add(
                DeploymentRow(
                    id=tier, project_id=DEFAULT_PROJECT, name=tier, model=TUNED, tier=tier, sku="", capacity=1, version="1", tags={},
                    created_at=house.time.now, updated_at=house.time.now,
                )
            )  # fmt: skip
    house.time.now += 4 * 3600
    assert house.cost()["hosting"] == {"deployments": 1, "hours": 4.0, "amount": 2.0}


def test_counts_that_cannot_be_written_are_kept(house, monkeypatch):
    count(house.service, Asked(DEFAULT_PROJECT, "tiny"), Answered(requests=1))
    with monkeypatch.context() as broken:
        broken.setattr("feinschliff.store.model_usage.add", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_counts(house.service)
    count(house.service, Asked(DEFAULT_PROJECT, "tiny"), Answered(requests=1))
    (kept,) = house.service.counts.take().values()
    assert kept.requests == 2
    assert not write_counts(house.service)


def test_an_answer_counts_once_it_is_complete(house):
    async def answers():
        yield Piece(id="1", index=0, text="a")
        yield Completed(id="1", prompt_tokens=7, completion_tokens=2, cached_tokens=5, seconds=0.1)

    async def read(n):
        told = counted(house.service, Asked(DEFAULT_PROJECT, "tiny"), answers())
        for _ in range(n):
            await anext(told)
        await told.aclose()
        return list(house.service.counts.take().values())

    assert asyncio.run(read(1)) == []
    assert asyncio.run(read(2)) == [Answered(1, 7, 5, 2)]


def test_a_job_that_is_not_there(house):
    assert house.client.get("/v1/fine_tuning/jobs/ftjob-none/cost").status_code == 404


def test_the_command_prints_the_same(house, tmp_path, monkeypatch):
    expected = house.after(3600, JobStatus.SUCCEEDED, tokens=5000, seconds=5400.0)
    monkeypatch.setenv("FEINSCHLIFF_CONFIG", str(tmp_path))
    ran = CliRunner().invoke(app, ["cost", house.job, "--data-dir", str(tmp_path / "data"), "--json"])
    told = json.loads(ran.output)
    assert {k: told[k] for k in ("training", "total", "currency", "status")} == {k: expected[k] for k in ("training", "total", "currency", "status")}
    shown = CliRunner().invoke(app, ["cost", house.job, "--data-dir", str(tmp_path / "data")]).output
    assert "5,000 tokens, 1.5 hours" in shown

"""Whether a job may start: refused at its creation, refused once its tokens are known, or let in with warnings."""
import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from feinschliff.app.file_check import check_next
from feinschliff.app.training import Training
from feinschliff.core.service import JobStatus
from feinschliff.providers.training_runs import TrainingRuns
from feinschliff.store import jobs
from feinschliff.store.job_usage import usage_of
from in_process import application

REGIONS = """
[regions.local]
kind = "machine"
concurrency = 2
quota = { training_tokens_per_month = 60_000, money_per_month = 20.0, jobs_per_month = 9 }

[regions.account]
kind = "openai"
key_env = "OPENAI_API_KEY"

[regions.thrifty]
kind = "openai"
key_env = "THRIFTY_KEY"
quota = { money_per_month = 0.05 }
"""
PROJECTS = "[projects.default.quota]\njobs_per_month = 3\n"
MODELS = """
[[models]]
id = "old-house-model"
kind = "chat"
licence = "ours"
about = "ours"
source = "us"
sources = [{ kind = "hub", repository = "house/old" }]
lifecycle = { fine_tuning_until = 2026-01-31, replacement = "house-model" }

[[models]]
id = "house-model"
kind = "chat"
licence = "ours"
about = "ours"
source = "us"
sources = [{ kind = "hub", repository = "house/model" }]
lifecycle = { fine_tuning_until = 2026-06-20 }
"""
NOW = int(datetime(2026, 6, 15, tzinfo=UTC).timestamp())


def lines(n_examples, n_words):
    return "".join(
        json.dumps({"messages": [{"role": "user", "content": f"{i} " + "word " * n_words}, {"role": "assistant", "content": f"Answer {i}."}]}) + "\n"
        for i in range(n_examples)
    ).encode()


class House:
    """A service with limits, and what a client does with it."""

    def __init__(self, service, client):
        self.service, self.client = service, client

    def upload(self, data, *, checked=True):
        file = self.client.post("/v1/files", files={"file": ("a.jsonl", data)}, data={"purpose": "fine-tune"}).json()["id"]
        while checked and check_next(self.service):
            pass
        return file

    def create(self, file, model="tiny", **more):
        return self.client.post("/v1/fine_tuning/jobs", json={"model": model, "training_file": file, **more})

    def events(self, job_id):
        return [(e["level"], e["message"]) for e in self.client.get(f"/v1/fine_tuning/jobs/{job_id}/events").json()["data"]]

    def set(self, job_id, status, tokens=0, seconds=0.0):
        """As if the job had come so far."""
        with self.service.database.write() as db:
            row, usage = jobs.job_of(db, job_id), usage_of(db, job_id)
            row.status, usage.tokens, usage.seconds = status, tokens, seconds


@pytest.fixture
def house(tmp_path, tiny_model, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("THRIFTY_KEY", "key")
    for name, text in {"regions": REGIONS, "projects": PROJECTS, "models": MODELS, "prices": "[machine]\nper_hour = 3600.0\n"}.items():
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    with application(tmp_path, config=tmp_path, models={"tiny": tiny_model}, clock=lambda: NOW) as (service, client):
        yield House(service, client)


def error(answer):
    body = answer.json()["error"]
    return SimpleNamespace(status=answer.status_code, code=body["code"], message=body["message"])


@pytest.mark.parametrize(
    ("model", "more", "status", "code", "said"),
    [
        ("gpt-4o", {}, 422, "not_offered", "It is tuned in East US 2, North Central US, Sweden Central"),
        ("Meta-Llama-3.1-70b-Instruct", {}, 422, "does_not_fit", "; local has "),
        ("old-house-model", {}, 422, "not_offered", "that ended on 2026-01-31. What still can: feinschliff catalog models --current. house-model"),
        ("tiny", {"region": "swedencentral"}, 404, "region_not_configured", "Write into regions.toml"),
        ("gpt-4.1-nano", {"region": "account"}, 404, "region_not_configured", "OPENAI_API_KEY is not set"),
        ("tiny", {"region": "thrifty"}, 404, "model_unavailable", "There is no model 'tiny'"),
        ("house-model", {"region": "thrifty"}, 422, "not_offered", "is not tuned in thrifty"),
        ("gpt-9", {}, 404, "model_unavailable", "does not exist here"),
    ],
)
def test_what_cannot_be_is_refused_at_creation(house, model, more, status, code, said):
    refused = error(house.create(house.upload(lines(10, 3), checked=False), model, **more))
    assert (refused.status, refused.code) == (status, code)
    assert said in refused.message
    assert house.client.get("/v1/fine_tuning/jobs").json()["data"] == []


def test_money_at_a_provider_is_its_price_for_the_tokens(house):
    """1.5 USD for a million trained tokens of gpt-4.1-nano; 100 examples of 500 words have at least 42,000, three times."""
    refused = error(house.create(house.upload(lines(100, 500)), "gpt-4.1-nano-2025-04-14", region="thrifty"))
    assert (refused.status, refused.code) == (402, "over_budget")
    assert "region thrifty: 0.05 USD a month, 0.00 used, this job needs at least 0.1" in refused.message
    small = house.create(house.upload(lines(20, 100)), "gpt-4.1-nano-2025-04-14", region="thrifty").json()
    assert small["model"] == "gpt-4.1-nano-2025-04-14"
    cost = house.client.get(f"/v1/fine_tuning/jobs/{small['id']}/cost").json()
    assert cost["training"]["expected_amount"] == pytest.approx(cost["training"]["expected_tokens"] * 1.5 / 1e6)
    house.set(small["id"], JobStatus.SUCCEEDED, tokens=33_000)
    refused = error(house.create(house.upload(lines(20, 100)), "gpt-4.1-nano-2025-04-14", region="thrifty"))
    assert "0.05 used" in refused.message


def test_a_date_that_is_near_is_told_as_an_event(house):
    job = house.create(house.upload(lines(10, 3), checked=False), "house-model", region="local").json()
    assert ("warn", "Fine-tuning ends on 2026-06-20, in 5 days.") in house.events(job["id"])
    assert any(level == "warn" and "its size is not known" in message for level, message in house.events(job["id"]))


def test_more_jobs_than_the_project_may_have(house):
    file = house.upload(lines(10, 3), checked=False)
    first, second, third = (house.create(file).json()["id"] for _ in range(3))
    refused = error(house.create(file))
    assert (refused.status, refused.code) == (402, "over_budget")
    assert "project default: 3 jobs a month, 3 used, this job needs 1." in refused.message
    house.set(first, JobStatus.FAILED, tokens=50)  # failed ones, and those cancelled before they trained, are free
    house.set(second, JobStatus.CANCELLED)
    house.set(third, JobStatus.CANCELLED, tokens=50, seconds=1.0)
    assert house.create(file).status_code == 200
    assert house.create(file).status_code == 200
    assert house.create(file).status_code == 402


def test_last_months_jobs_are_not_counted(house):
    file = house.upload(lines(10, 3), checked=False)
    for _ in range(3):
        house.create(file)
    with house.service.database.write() as db:
        for row in jobs.jobs_in(db, list(JobStatus)):
            row.created_at -= 15 * 86_400
    assert house.create(file).status_code == 200


def test_tokens_and_money_are_counted_as_used_or_as_expected(house):
    small = house.create(house.upload(lines(10, 3), checked=False)).json()["id"]
    house.set(small, JobStatus.SUCCEEDED, tokens=59_000, seconds=19.0)
    refused = error(house.create(house.upload(lines(40, 100))))  # 40 · 500 characters, three epochs
    assert "region local: 60,000 training tokens a month, 59,000 used, this job needs at least 10," in refused.message
    house.set(small, JobStatus.SUCCEEDED, tokens=0, seconds=20.1)
    assert "20.00 USD a month, 20.10 used" in error(house.create(house.upload(lines(10, 3), checked=False))).message


def test_once_the_tokens_are_counted_a_budget_stops_the_job_before_it_starts(house):
    file = house.upload(lines(100, 90))  # by its characters 23,000 tokens, by the tiny tokenizer far more
    job = house.create(file).json()["id"]
    later = house.create(house.upload(lines(10, 3))).json()["id"]
    runs = TrainingRuns(house.service.runs)
    training = Training(house.service, runs)
    for _ in range(2):  # validated, then prepared
        training.step()
    ended = house.client.get(f"/v1/fine_tuning/jobs/{job}").json()
    assert (ended["status"], ended["error"]["code"], ended["error"]["param"]) == ("failed", "over_budget", None)
    assert "region local: 60,000 training tokens a month, 0 used, this job needs 1" in ended["error"]["message"]
    assert not (house.service.runs / job / "spec.json").exists()
    assert house.client.get(f"/v1/fine_tuning/jobs/{later}").json()["status"] == "running"  # it was made later: its share did not count
    assert runs.known() == set()


def test_as_many_jobs_at_once_as_the_region_allows(house):
    file = house.upload(lines(10, 3))
    made = [house.create(file).json()["id"] for _ in range(3)]
    training = Training(house.service, TrainingRuns(house.service.runs))
    for _ in range(2):
        training.step()
    states = [house.client.get(f"/v1/fine_tuning/jobs/{job}").json()["status"] for job in made]
    training.stop()
    assert states == ["running", "running", "queued"]

"""The program that follows a job of the service at its provider, where the provider refuses something."""
import asyncio
import json

import pytest

from feinschliff.catalog.regions import OpenAi
from feinschliff.compute.process import UNREACHABLE
from feinschliff.core.errors import ProviderRefused
from feinschliff.core.jobs import Hyperparameters, TrainSpec
from feinschliff.providers.remote.account import Account
from feinschliff.providers.remote.connect import connect
from feinschliff.providers.remote.ledger import Ledger
from feinschliff.providers.remote.orders import place
from feinschliff.providers.remote.program import _follow, _spec, _task, main
from feinschliff.providers.remote.standing import Standing
from feinschliff.providers.remote.trainer import order_of


@pytest.fixture
def standing(tmp_path, provider):
    folder = tmp_path / "run"
    folder.mkdir()
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    (folder / "train.jsonl").write_text((json.dumps(row) + "\n") * 10, encoding="utf-8")
    spec = TrainSpec(model="gpt", train_files=("train.jsonl",), hyperparameters=Hyperparameters(n_epochs=2, batch_size=4))
    (folder / "spec.json").write_text(spec.model_dump_json(), encoding="utf-8")
    region = OpenAi(kind="openai", base_url=f"{provider.url}/v1", key_env="K")
    return Standing(
        verb="follow", folder=folder, job="ftjob-1", region="far", place=region, model="gpt", suffix=None, price=None, ledger=tmp_path / "far.jsonl"
    )


@pytest.fixture
def account(standing):
    client = connect("far", standing.place, {"K": "key"}, retries=0)
    with Account("far", client, Ledger(standing.ledger), poll_s=0.01, sleep=lambda s: None) as account:
        yield account


def test_a_job_that_is_there_is_not_failed_by_a_refusal_before_its_first_event(account, provider, standing):
    there = place(account, order_of(standing.folder, _spec(standing), _task(standing))[0])
    provider.jobs[0]["status"] = "pausing"
    provider.fault(f"POST /fine_tuning/jobs/{there.id}/resume", ("before", 400, {}))
    with pytest.raises(ProviderRefused):
        asyncio.run(_follow(account, standing))
    assert not (standing.folder / "events.jsonl").exists()


def test_a_job_whose_provider_writes_what_nobody_knows_waits(account, provider, standing, monkeypatch, capsys):
    place(account, order_of(standing.folder, _spec(standing), _task(standing))[0])
    provider.jobs[0]["status"] = None
    monkeypatch.setenv("K", "key")
    assert main(standing) == UNREACHABLE
    assert capsys.readouterr().err == "far: RemoteJob cannot be read: status: Input should be a valid string.\n"
    assert not (standing.folder / "events.jsonl").exists()


def test_a_refusal_to_make_the_job_is_its_failure(account, provider, standing):
    provider.fault("POST /fine_tuning/jobs", ("before", 400, {}))
    asyncio.run(_follow(account, standing))
    assert json.loads((standing.folder / "events.jsonl").read_text())["code"] == "provider_refused"
    assert not provider.jobs

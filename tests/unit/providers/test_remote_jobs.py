"""Remote jobs against a provider that misbehaves as real ones do. tests/service/test_remote_regions.py has a real counterpart."""
import asyncio
import json
import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest
from provider_double import Provider

from feinschliff.catalog.prices import Price
from feinschliff.catalog.regions import Azure, OpenAi
from feinschliff.core.chat import user
from feinschliff.core.engine import Sampling
from feinschliff.core.errors import BadData, NotOffered, ProviderRefused, ProviderUnreachable, TrainingFailed
from feinschliff.core.jobs import (
    Checkpoint,
    Finished,
    Hyperparameters,
    JobId,
    Lora,
    Started,
    Step,
    Told,
    TrainSpec,
)
from feinschliff.providers.remote.account import Account
from feinschliff.providers.remote.connect import connect
from feinschliff.providers.remote.ledger import Ledger
from feinschliff.providers.remote.named import read_remote
from feinschliff.providers.remote.orders import Order, find_job, place
from feinschliff.providers.remote.responder import RemoteResponder
from feinschliff.providers.remote.trainer import RemoteTrainer, Task

JOB = JobId("tuned")
PRICE = Price(
    provider="azure", model="gpt", training_million_tokens=10.0, input_million_tokens=1.0, output_million_tokens=4.0, source="test", read="2026-11-24"
)


@pytest.fixture
def forgetful():
    double = Provider(forgetful=True)
    yield double
    double.close()


@pytest.fixture
def account_of(tmp_path):
    """How to come by an account of a provider; their connections are closed at the end."""
    with ExitStack() as stack:

        def make(provider, *, azure=False, retries=6):
            if azure:
                region = Azure(kind="azure", location="Sweden Central", endpoint=provider.url, api_version="2024-10-21", key_env="K")
            else:
                region = OpenAi(kind="openai", base_url=f"{provider.url}/v1", key_env="K")
            client = connect("far", region, {"K": "key"}, retries=retries)
            account = Account("far", client, Ledger(tmp_path / "far.jsonl"), azure=azure, price=PRICE, poll_s=0.01, sleep=lambda s: None)
            return stack.enter_context(account)

        yield make


@pytest.fixture
def order(tmp_path):
    file = tmp_path / "train.jsonl"
    rows = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": q * 2}]} for q in "abcdefghij"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Order(model="gpt", train=file, seed=1)


def n_asked(provider, request):
    return sum(asked == request for asked, _ in provider.requests)


def test_the_same_order_is_one_job_wherever_its_file_lies(account_of, provider, order, tmp_path):
    account = account_of(provider)
    sent = []
    first = place(account, order, sent=lambda name, done, size: sent.append((name, done, size)))
    size = order.train.stat().st_size
    assert sent[-1] == ("train.jsonl", size, size)
    assert provider.jobs[0]["wanted"]["metadata"] == {"feinschliff_key": order.key, "feinschliff_attempt": "1"}
    elsewhere = tmp_path / "moved.jsonl"
    elsewhere.write_bytes(order.train.read_bytes())
    assert place(account, order.model_copy(update={"train": elsewhere})).id == first.id
    assert find_job(account, order).id == first.id
    assert place(account, order.model_copy(update={"seed": 2})).id != first.id
    assert (len(provider.jobs), len(provider.files)) == (2, 2)


@pytest.mark.parametrize("fault", [("after", "reset", {}), ("after", 500, {}), ("after", 503, {"retry-after": "7"}), ("after", 409, {})])
def test_an_answer_that_is_lost_makes_no_second_job(account_of, provider, order, tmp_path, fault):
    provider.fault("POST /fine_tuning/jobs", fault)
    assert place(account_of(provider), order).id == provider.jobs[0]["id"]
    assert len(provider.jobs) == 1


def test_a_request_that_never_arrived_is_made_again_after_looking(account_of, provider, order, tmp_path):
    waited = []
    account = account_of(provider)
    account.sleep = waited.append
    provider.fault("POST /fine_tuning/jobs", ("before", 429, {"retry-after": "9"}), ("before", "reset", {}), ("before", 502, {}))
    place(account, order)
    assert len(provider.jobs) == 1
    assert n_asked(provider, "POST /fine_tuning/jobs") == 4
    assert [s for s in waited if s >= 1] == [9.0, 4.0, 15.0]


def test_a_provider_that_stays_down_is_told_and_leaves_nothing_behind(account_of, provider, order, tmp_path):
    account = account_of(provider)
    provider.fault("POST /fine_tuning/jobs", *[("before", 503, {})] * 5)
    with pytest.raises(ProviderUnreachable, match="503 too busy"):
        place(account, order)
    assert provider.jobs == []
    place(account, order)
    assert (len(provider.jobs), len(provider.files)) == (1, 1)


def test_where_metadata_is_not_kept_the_files_name_finds_the_job(account_of, forgetful, order, tmp_path):
    account = account_of(forgetful, azure=True)
    forgetful.fault("POST /fine_tuning/jobs", ("after", "reset", {}))
    first = place(account, order.model_copy(update={"training": "global"}))
    assert place(account, order.model_copy(update={"training": "global"})).id == first.id
    place(account, order)
    assert [job["wanted"].get("trainingType") for job in forgetful.jobs] == ["GlobalStandard", None]
    assert all("api-version=2024-10-21" in query for _, query in forgetful.requests)


def test_twins_of_two_processes_become_one(account_of, provider, order, tmp_path):
    account = account_of(provider)
    first = place(account, order)
    provider.new_job(provider.jobs[0]["wanted"])
    assert place(account, order).id == first.id
    assert [job["status"] for job in provider.jobs] == ["pending", "cancelled"]


KILLED = """
import sys
from pathlib import Path
from feinschliff.catalog.regions import OpenAi
from feinschliff.providers.remote.account import Account
from feinschliff.providers.remote.connect import connect
from feinschliff.providers.remote.ledger import Ledger
from feinschliff.providers.remote.orders import Order, place
url, file = sys.argv[1:]
client = connect("far", OpenAi(kind="openai", base_url=url + "/v1", key_env="K"), {"K": "key"})
place(Account("far", client, Ledger(Path(file + ".ledger")), poll_s=0.01), Order(model="gpt", train=Path(file), seed=1))
"""


@pytest.mark.parametrize("request_", ["POST /fine_tuning/jobs", "POST /files"])
def test_a_client_killed_while_it_asks_finds_what_it_asked_for(account_of, provider, order, tmp_path, request_):
    """The provider has done it, the answer never comes, the process is killed; the next one finds it."""
    provider.fault(request_, ("after", "hang", {}))
    child = subprocess.Popen([sys.executable, "-c", KILLED, provider.url, str(order.train)])
    try:
        assert provider.hanging.wait(60)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    place(account_of(provider), order)
    assert (len(provider.jobs), len(provider.files)) == (1, 1)


def spec_of(order, **changes):
    return TrainSpec(model="far:gpt", train_files=(str(order.train),), hyperparameters=Hyperparameters(n_epochs=2, batch_size=4)).model_copy(update=changes)


def run(trainer, spec):
    async def collect():
        return [event async for _, event in trainer.run({JOB: spec})]

    return asyncio.run(collect())


def test_a_remote_trainer_tells_what_a_local_one_tells(account_of, provider, order, tmp_path):
    trainer = RemoteTrainer(tmp_path / "runs", account_of(provider), Task(model="gpt"))
    events = run(trainer, spec_of(order))
    assert [type(e) for e in events] == [Told, Started, Step, Step, Checkpoint, Finished]
    assert (events[0].message, events[0].level) == ("Job enqueued.", "warn")
    assert [(s.step, s.total_steps, s.train_loss, s.epoch) for s in events if isinstance(s, Step)] == [(1, 2, 2.0, 1.0), (2, 2, 1.0, 2.0)]
    assert (events[-1].trained_tokens, events[-1].seconds) == (5000, 60.0)
    job = provider.jobs[0]
    assert read_remote(tmp_path / "runs" / JOB / "model").model == job["fine_tuned_model"]
    assert read_remote(tmp_path / "runs" / JOB / "checkpoints" / "step-1").model == f"{job['fine_tuned_model']}:ckpt-step-1"
    chosen = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": "auto"}
    assert job["wanted"]["method"] == {"type": "supervised", "supervised": {"hyperparameters": chosen}}
    n_requests = len(provider.requests)
    assert run(trainer, spec_of(order)) == events
    assert len(provider.requests) == n_requests  # a finished run asks nobody
    assert trainer._account.ledger.spent().model_dump() == {"training_tokens": 5000, "money": 0.05, "jobs": 1}


def test_a_trainer_that_was_stopped_goes_on_with_the_same_job(account_of, provider, order, tmp_path):
    account = account_of(provider)

    async def first_events():
        found, running = [], RemoteTrainer(tmp_path / "runs", account, Task(model="gpt")).run({JOB: spec_of(order)})
        async for _, event in running:
            found.append(event)
            if isinstance(event, Step):
                await running.aclose()
        return found

    before = asyncio.run(first_events())
    with (tmp_path / "runs" / JOB / "events.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"kind": "st')  # as a kill leaves it
    after = run(RemoteTrainer(tmp_path / "runs", account, Task(model="gpt")), spec_of(order))
    assert after[: len(before)] == before
    assert [e.step for e in after if isinstance(e, Step)] == [1, 2]
    assert len(provider.jobs) == 1


def test_a_failed_job_is_told_once_and_then_asked_for_anew(account_of, provider, order, tmp_path):
    provider.ends = "failed"
    trainer = RemoteTrainer(tmp_path / "runs", account_of(provider), Task(model="gpt"))
    with pytest.raises(TrainingFailed, match="did not pass the safety evaluation"):
        run(trainer, spec_of(order))
    assert trainer._account.ledger.spent().money == 0
    provider.ends = "succeeded"
    assert isinstance(run(trainer, spec_of(order))[-1], Finished)
    assert [job["status"] for job in provider.jobs] == ["failed", "succeeded"]
    assert provider.jobs[1]["metadata"]["feinschliff_attempt"] == "2"


def test_storms_while_a_job_is_watched_end_nothing(account_of, provider, order, tmp_path):
    account = account_of(provider, retries=0)
    provider.fault("GET /fine_tuning/jobs/ftjob-000", *[("before", 429, {"retry-after": "30"})] * 5, ("before", "reset", {}), ("before", 500, {}))
    provider.fault("GET /fine_tuning/jobs/ftjob-000/events", ("before", 503, {}), ("after", "reset", {}))
    provider.fault("GET /fine_tuning/jobs/ftjob-000/checkpoints", ("before", 503, {}))
    events = run(RemoteTrainer(tmp_path / "runs", account, Task(model="gpt")), spec_of(order))
    assert [e.step for e in events if isinstance(e, Step)] == [1, 2]
    assert isinstance(events[-1], Finished)


def test_what_hosted_tuning_has_no_word_for_is_refused(account_of, provider, order, tmp_path):
    trainer = RemoteTrainer(tmp_path / "runs", account_of(provider), Task(model="gpt"))
    with pytest.raises(NotOffered, match="method, lr_probe, max_tokens"):
        run(trainer, spec_of(order, method=Lora(dora=True), lr_probe=True, max_tokens=100))
    assert provider.requests == []


def test_contexts_share_the_one_file_row_by_row(account_of, provider, order, tmp_path):
    other = tmp_path / "prompted.jsonl"
    other.write_text(order.train.read_text(encoding="utf-8").replace('"user"', '"system"'), encoding="utf-8")
    trainer = RemoteTrainer(tmp_path / "runs", account_of(provider), Task(model="gpt"))
    run(trainer, spec_of(order, train_files=(str(order.train), str(other))))
    rows = [json.loads(line) for line in (tmp_path / "runs" / JOB / "remote-train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["messages"][0]["role"] for row in rows] == ["user", "system"] * 5


def test_a_faulty_file_is_told_in_the_providers_words(account_of, provider, order, tmp_path):
    account = account_of(provider)
    real = provider.file
    provider.file = lambda file_id: real(file_id) | {"status": "error", "status_details": "Line 3 is not a dictionary"}
    with pytest.raises(BadData, match="Line 3 is not a dictionary"):
        place(account, order)
    assert provider.jobs == []


def test_hosted_answers_come_in_order_with_tokens_and_money(account_of, provider, tmp_path):
    account = account_of(provider)
    provider.fault("POST /chat/completions", *[("before", 429, {"retry-after-ms": "5"})] * 3)
    seen = []
    ask = RemoteResponder(account, "gpt", Sampling(max_tokens=8), at_once=3, on_progress=seen.append)
    replies = asyncio.run(ask([(user(text),) for text in "abcde"]))
    assert [r.text for r in replies] == [f"You said {text}" for text in "abcde"]
    assert {(r.input_tokens, r.output_tokens, r.latency_ms) for r in replies} == {(7, 3, None)}
    assert sorted(seen) == [1, 2, 3, 4, 5]
    (alone,) = asyncio.run(ask([(user("x"),)]))
    assert alone.latency_ms > 0
    entries = list(account.ledger.entries())
    assert [(e.kind, e.input_tokens, e.output_tokens, round(e.money * 1e6)) for e in entries] == [("answer", 7, 3, 19)] * 6
    with pytest.raises(ProviderRefused, match="asking gpt: no such thing"):
        asyncio.run(ask([(user("forbidden"),)]))


def test_a_filtered_question_is_an_empty_answer(account_of, provider, tmp_path):
    refused = {"error": {"message": "filtered", "type": None, "param": "prompt", "code": "content_filter"}}
    provider.send, real = (lambda handler, status, shape, headers=(): real(handler, 400, refused)), provider.send
    (reply,) = asyncio.run(RemoteResponder(account_of(provider), "gpt", Sampling(max_tokens=8))([(user("x"),)]))
    assert (reply.text, reply.finish_reason) == ("", "content_filter")


def test_credit_that_is_used_up_is_not_waited_for(account_of, provider, order, tmp_path):
    account = account_of(provider, retries=0)
    spent = {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}}
    provider.send, real = (lambda handler, status, shape, headers=(): real(handler, 429, spent)), provider.send
    with pytest.raises(ProviderRefused, match="exceeded your current quota") as refused:
        place(account, order)
    assert "at the provider" in refused.value.hint


def test_nobody_listening_is_told_with_the_place(account_of, tmp_path, order):
    double = Provider()
    double.close()
    with pytest.raises(ProviderUnreachable, match="far, listing jobs") as down:
        place(account_of(double, retries=0), order)
    assert "regions.toml" in down.value.hint

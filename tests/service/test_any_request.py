"""Requests that schemathesis makes up from our own OpenAPI, for every path of every dialect: no answer is a server error, and every
answer has the form that is declared for it. The seed is printed; `FEINSCHLIFF_TEST_SEED` repeats a run."""
import os
import random
from collections.abc import Iterator, Mapping

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from running import ADMIN_KEY, Server
from schemathesis.checks import not_a_server_error, response_schema_conformance
from schemathesis.core.failures import FailureGroup
from test_files import upload
from test_jobs import ended, start

SEED = int(os.environ.get("FEINSCHLIFF_TEST_SEED", random.SystemRandom().randrange(1 << 30)))
HEADERS = {"authorization": f"Bearer {ADMIN_KEY}"}
# Requests are many, and every one with another model's name is refused; waiting for a model to answer is for other tests.
OPTIONS = ("--limit", "requests_per_minute=1000000", "--limit", "waiting_jobs=3", "--limit", "python_grader_s=1")


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny_model) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("any"), "--model", f"tiny={tiny_model}", *OPTIONS).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def known(server) -> Mapping[str, str]:
    """Things that exist, by the name of the path's parameter: every other request is for one of them."""
    client = server.client()
    job = ended(client, start(client).id)
    evaluation = client.evals.create(
        name="e", testing_criteria=[{"type": "string_check", "name": "s", "input": "{{item.a}}", "operation": "eq", "reference": "b"}],
        data_source_config={"type": "custom", "item_schema": {"type": "object", "properties": {"a": {"type": "string"}}}},
    )  # fmt: skip
    pending = client.uploads.create(bytes=5, filename="a", mime_type="text/plain", purpose="user_data")
    server.http().post("/v1/deployments", json={"name": "mine", "model": "tiny"})
    checkpoint = f"{job.fine_tuned_model}:ckpt-step-3"
    return {
        "file_id": upload(client, b"x", "x.txt", "user_data").id, "fine_tuning_job_id": job.id, "job_id": job.id, "eval_id": evaluation.id,
        "upload_id": pending.id, "name": "mine", "deployment": "mine", "deployment_id": "mine", "model": checkpoint, "checkpoint": checkpoint,
    }  # fmt: skip


def try_everything(server: Server, known: Mapping[str, str], examples: int) -> int:
    """So many requests for each operation; how many were sent. Fails with all that went wrong, a request each."""
    print(f"FEINSCHLIFF_TEST_SEED={SEED}")
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    wrong: dict[str, str] = {}
    n_sent = 0
    for result in schema.get_all_operations():
        operation = result.ok()

        @seed(SEED)
        @settings(max_examples=examples, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def answers(case):
            nonlocal n_sent
            n_sent += 1
            if n_sent % 2:
                case.path_parameters = {k: known.get(k, v) for k, v in (case.path_parameters or {}).items()}
            response = case.call(headers=HEADERS, timeout=120)
            try:
                case.validate_response(response, checks=[not_a_server_error, response_schema_conformance], excluded_checks=[])
            except FailureGroup as group:
                wrong.setdefault(case.operation.label, f"{group.exceptions[0]}\n{case.as_curl_command()}"[:1500])

        answers()
    assert not wrong, "\n\n".join(wrong.values())
    return n_sent


def test_no_request_is_a_server_error(server, known):
    n_sent = try_everything(server, known, examples=4)
    print(f"{n_sent} requests")
    assert n_sent > 300


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_no_request_of_many_is_a_server_error(server, known):
    try_everything(server, known, examples=150)

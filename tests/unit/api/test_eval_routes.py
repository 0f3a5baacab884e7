"""/v1/evals and the grader endpoints: variants that need no model, over ASGI; runs are carried out as in a server."""
import time
from dataclasses import replace

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from feinschliff.api.app import create_app
from feinschliff.app.keys import create_key
from feinschliff.core.service import Scope
from feinschliff.store.tables import AuditRow, EvalItemRow, EvalRunRow
from in_process import ADMIN_KEY, application

SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}, "a": {"type": "string"}}, "required": ["q", "a"]}
SAME = {"type": "string_check", "name": "same", "input": "{{sample.output_text}}", "reference": "{{item.a}}", "operation": "eq"}
LIKE = {"type": "text_similarity", "name": "alike", "input": "{{sample.output_text}}", "reference": "{{item.a}}", "evaluation_metric": "fuzzy_match", "pass_threshold": 0.5}
CODE = {"type": "python", "name": "code", "source": "def grade(sample, item):\n    return len(sample['output_text']) / item.get('most', 10)", "pass_threshold": 0.1}


@pytest.fixture(scope="module")
def service_and_client(tmp_path_factory, tiny_model):
    with application(tmp_path_factory.mktemp("evals"), models={"tiny": tiny_model}) as both:
        yield both


@pytest.fixture(scope="module")
def client(service_and_client):
    return service_and_client[1]


def create(client, *criteria, **more):
    body = {"name": "mine", "data_source_config": {"type": "custom", "item_schema": SCHEMA}, "testing_criteria": list(criteria or (SAME,))} | more
    return client.post("/v1/evals", json=body)


def line(q, a, said=None):
    return {"item": {"q": q, "a": a}} | ({} if said is None else {"sample": {"output_text": said}})


def start(client, eval_id, *lines, **more):
    source = {"type": "jsonl", "source": {"type": "file_content", "content": list(lines)}}
    return client.post(f"/v1/evals/{eval_id}/runs", json={"name": "run", "data_source": source} | more)


def ended(client, run):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        run = client.get(f"/v1/evals/{run['eval_id']}/runs/{run['id']}").json()
        if run["status"] not in ("queued", "in_progress"):
            return run
        time.sleep(0.02)
    raise AssertionError(f"still {run['status']}")


def test_an_evaluation_is_made_changed_listed_and_deleted(client):
    made = create(client, metadata={"k": "v"})
    assert made.status_code == 201
    first, second = made.json(), create(client, name="other").json()
    assert first["data_source_config"] == {"type": "custom", "schema": {"type": "object", "properties": {"item": SCHEMA}, "required": ["item"]}}
    assert (first["testing_criteria"], first["metadata"]) == ([SAME], {"k": "v"})
    changed = client.post(f"/v1/evals/{first['id']}", json={"name": "new name"}).json()
    assert (changed["name"], changed["metadata"]) == ("new name", {"k": "v"})
    for by in ("created_at", "updated_at"):
        ids = []
        params = {"limit": 1, "order_by": by, "order": "desc"}
        while True:
            page = client.get("/v1/evals", params=params).json()
            ids += [e["id"] for e in page["data"]]
            if not page["has_more"]:
                break
            params["after"] = page["last_id"]
        assert {first["id"], second["id"]} <= set(ids)
        assert len(ids) == len(set(ids))
    assert client.delete(f"/v1/evals/{first['id']}").json() == {"object": "eval.deleted", "deleted": True, "eval_id": first["id"]}
    assert client.get(f"/v1/evals/{first['id']}").status_code == 404


def test_what_the_hosted_service_shows_can_be_made_here_as_it_is(client):
    """An evaluation read there with GET and posted here, its judge a model that is not here yet."""
    shown = {
        "shared_with_openai": False, "object": "eval", "id": "eval_67abd54d9b0081909a86353f6fb9317a", "created_at": 1739314509, "name": "Tickets", "metadata": {"usecase": "it"},
        "data_source_config": {
            "type": "custom",
            "schema": {"type": "object", "properties": {"item": SCHEMA, "sample": {"type": "object"}}, "required": ["item", "sample"]},
        },
        "testing_criteria": [
            {
                "name": "judge", "type": "label_model", "model": "gpt-4o", "labels": ["good", "bad"], "passing_labels": ["good"],
                "input": [{"type": "message", "role": "developer", "content": {"type": "input_text", "text": "Is {{item.q}} answered?"}}],
            },
            SAME | {"id": "same-2eaf2d8d-d649-4335-8148-9535a7ca73c2"},
        ],
    }  # fmt: skip
    made = client.post("/v1/evals", json=shown)
    assert made.status_code == 201, made.text
    made = made.json()
    assert made["id"] != shown["id"]
    assert made["testing_criteria"] == [shown["testing_criteria"][0], SAME]
    assert list(made["data_source_config"]["schema"]["properties"]) == ["item", "sample"]
    refused = start(client, made["id"], line("q", "a", "a"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert "/v1/deployments" in refused.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["logs", "stored_completions"])
def test_evaluations_of_kept_answers_load_and_judge_what_a_run_brings(client, kind):
    """Their own answers were kept by the hosted service; exported, they come as items with samples."""
    schema = {"type": "object", "properties": {"item": {"type": "object"}, "sample": {"type": "object"}}, "required": ["item", "sample"]}
    for more in ({}, {"metadata": {"usecase": "push"}, "schema": schema}):
        made = create(client, data_source_config={"type": kind} | more)
        assert made.status_code == 201, made.text
        config = made.json()["data_source_config"]
        assert (config["type"], config["metadata"], list(config["schema"]["properties"])) == (kind, more.get("metadata", {}), ["item", "sample"])
        assert client.get(f"/v1/evals/{made.json()['id']}").json() == made.json()
        assert create(client, data_source_config=config).status_code == 201  # as it is shown here, too
    run = ended(client, start(client, made.json()["id"], line("q", "a", "a"), line("q", "a", "b")).json())
    assert (run["result_counts"]["passed"], run["result_counts"]["failed"]) == (1, 1)
    source = {"type": "responses", "instructions_search": "x", "users": ["u"], "tools": ["t"], "temperature": 1, "created_after": 1, "reasoning_effort": "low"}
    asked = {"type": "responses", "model": "tiny", "source": source, "input_messages": {"type": "item_reference", "item_reference": "item.m"}}
    refused = client.post(f"/v1/evals/{made.json()['id']}/runs", json={"data_source": asked})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_data_source")
    assert "file_id" in refused.json()["error"]["message"]


def test_items_are_judged_as_they_come(client):
    made = create(client, SAME, LIKE, CODE).json()
    run = ended(client, start(client, made["id"], line("1", "one", "one"), line("2", "two", "xyz"), line("3", "three")).json())
    assert run["status"] == "completed"
    assert run["result_counts"] == {"total": 3, "passed": 1, "failed": 1, "errored": 1}
    assert run["per_testing_criteria_results"] == [
        {"testing_criteria": "same", "passed": 1, "failed": 1}, {"testing_criteria": "alike", "passed": 1, "failed": 1},
        {"testing_criteria": "code", "passed": 2, "failed": 0},
    ]  # fmt: skip
    path = f"/v1/evals/{made['id']}/runs/{run['id']}/output_items"
    items = {item["datasource_item_id"]: item for item in client.get(path).json()["data"]}
    assert [items[i]["status"] for i in range(3)] == ["pass", "fail", "error"]
    assert items[0]["results"][2] | {"score": 0.3} == {"name": "code", "type": "python", "score": 0.3, "passed": True, "sample": None}
    assert items[2]["results"][0]["error"]["code"] == "invalid_variable_error"
    assert [i["status"] for i in client.get(path, params={"status": "fail"}).json()["data"]] == ["fail"]
    assert client.get(f"{path}/{items[0]['id']}").json() == items[0]
    assert client.delete(f"/v1/evals/{made['id']}/runs/{run['id']}").json()["deleted"]
    assert client.get(path).status_code == 404


def test_a_file_is_read_line_by_line_and_what_does_not_fit_is_named(client):
    made = create(client).json()

    def from_file(text):
        file = client.post("/v1/files", files={"file": ("items.jsonl", text)}, data={"purpose": "evals"}).json()
        source = {"type": "jsonl", "source": {"type": "file_id", "id": file["id"]}}
        return client.post(f"/v1/evals/{made['id']}/runs", json={"data_source": source})

    good = '{"item": {"q": "1", "a": "x"}, "sample": {"output_text": "x"}}\n'
    assert ended(client, from_file("\ufeff" + good + "\n" + good).json())["result_counts"]["passed"] == 2
    for text, why in ((good + "{oops\n", "Line 2"), (good + '{"item": {"q": 1, "a": "x"}}', r"Item 2 does not fit"), (good + '{"q": 1}', "Line 2")):
        refused = from_file(text)
        assert refused.status_code == 400
        assert why in refused.json()["error"]["message"]
    missing = client.post(f"/v1/evals/{made['id']}/runs", json={"data_source": {"type": "jsonl", "source": {"type": "file_id", "id": "file-x"}}})
    assert missing.status_code == 404


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"data_source_config": {"type": "custom", "schema": {"properties": []}}}, "data_source_config.item_schema"),
        ({"data_source_config": {"type": "thing"}}, "data_source_config.type"),
        ({"data_source_config": {"type": "custom"}}, "data_source_config.item_schema"),
        ({"data_source_config": {"type": "custom", "item_schema": {"type": "thing"}}}, "data_source_config.item_schema"),
        ({"testing_criteria": []}, "testing_criteria"),
        ({"testing_criteria": [SAME | {"operation": "is"}]}, "testing_criteria.0.string_check.operation"),
        ({"testing_criteria": [LIKE | {"evaluation_metric": "meteor"}]}, None),
    ],
)
def test_what_is_not_done_here_is_refused_when_it_is_made(client, change, where):
    refused = create(client, **change)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, where)


@pytest.mark.parametrize(
    "source",
    [
        {"type": "completions", "model": "tiny", "input_messages": {"type": "item_reference", "item_reference": "item.q"}, "source": {"type": "stored_completions", "limit": 5}},
        {"type": "responses", "model": "tiny", "input_messages": {"type": "item_reference", "item_reference": "item.q"}, "source": {"type": "responses"}},
        {"type": "completions", "model": "tiny", "input_messages": {"type": "template", "template": [{"role": "user", "content": "{{row.q}}"}]}, "source": {"type": "file_content", "content": [line("q", "a")]}},
        {"type": "jsonl", "source": {"type": "file_content", "content": []}},
    ],
)  # fmt: skip
def test_sources_that_are_not_here(client, source):
    refused = client.post(f"/v1/evals/{create(client).json()['id']}/runs", json={"data_source": source})
    assert refused.status_code == 400, refused.text


def test_projects_do_not_see_each_other_and_changes_are_on_record(service_and_client):
    service, client = service_and_client
    made = create(client).json()
    run = ended(client, start(client, made["id"], line("1", "a", "a")).json())
    stranger = {"authorization": f"Bearer {create_key(service, project='strangers', name='s', scope=Scope.WRITE)[1]}"}
    for path in (f"/v1/evals/{made['id']}", f"/v1/evals/{made['id']}/runs", f"/v1/evals/{made['id']}/runs/{run['id']}/output_items"):
        assert client.get(path, headers=stranger).status_code == 404
    assert client.get("/v1/evals", headers=stranger).json()["data"] == []
    reader = {"authorization": f"Bearer {create_key(service, project='default', name='r', scope=Scope.READ)[1]}"}
    assert client.get(f"/v1/evals/{made['id']}", headers=reader).status_code == 200
    assert start(TestClient(client.app, headers=reader), made["id"], line("1", "a", "a")).status_code == 403
    with service.database.read() as db:
        actions = {(row.action, row.subject) for row in db.scalars(select(AuditRow))}
    assert {("eval.create", made["id"]), ("eval.run.create", run["id"])} <= actions


def test_a_run_that_was_cut_off_goes_on_with_the_items_that_are_missing(service_and_client):
    """As a killed server leaves it: in progress, two of three items judged. They are not judged again."""
    service, client = service_and_client
    made = create(client).json()
    run = ended(client, start(client, made["id"], *(line(str(i), "a", "a") for i in range(3))).json())
    path = f"/v1/evals/{made['id']}/runs/{run['id']}/output_items"
    before = {item["datasource_item_id"]: item["id"] for item in client.get(path).json()["data"]}
    with service.database.write() as db:
        row = db.scalar(select(EvalRunRow).where(EvalRunRow.id == run["id"]))
        lost = db.scalar(select(EvalItemRow).where(EvalItemRow.run_id == run["id"], EvalItemRow.number == 1))
        db.delete(lost)
        row.status, row.tallies = "in_progress", row.tallies | {"passed": 2, "criteria": [[2, 0]]}
    service.work.ring()
    assert ended(client, run)["result_counts"] == {"total": 3, "passed": 3, "failed": 0, "errored": 0}
    after = {item["datasource_item_id"]: item["id"] for item in client.get(path).json()["data"]}
    assert after | {1: None} == before | {1: None}
    assert after[1] != before[1]


def test_a_run_is_cancelled_once(client):
    made = create(client, CODE | {"source": "import time\ndef grade(sample, item):\n    time.sleep(5)\n    return 1"}).json()
    run = start(client, made["id"], *(line(str(i), "a", "a") for i in range(20))).json()
    assert client.post(f"/v1/evals/{made['id']}/runs/{run['id']}").json()["status"] == "canceled"
    assert client.post(f"/v1/evals/{made['id']}/runs/{run['id']}").status_code == 409
    listed = client.get(f"/v1/evals/{made['id']}/runs", params={"status": "canceled"}).json()["data"]
    assert [r["id"] for r in listed] == [run["id"]]


def test_limits(tmp_path):
    with application(tmp_path) as (opened, _):
        tight = opened.settings.limits.model_copy(update={"eval_items": 1, "python_grader_s": 0})
        service = replace(opened, settings=opened.settings.model_copy(update={"limits": tight}))
        with TestClient(create_app(service), headers={"authorization": f"Bearer {ADMIN_KEY}"}) as client:
            assert "switched off" in create(client, CODE).json()["error"]["message"]
            made = create(client).json()
            assert "more than 1 items" in start(client, made["id"], line("1", "a"), line("2", "a")).json()["error"]["message"]


def trial(client, grader, said="fuzzy wuzzy", **item):
    return client.post("/v1/fine_tuning/alpha/graders/run", json={"grader": grader, "model_sample": said, "item": item}).json()


def test_a_grader_is_tried_out(client):
    told = trial(client, SAME, "yes", a="yes")
    assert (told["reward"], told["metadata"]["scores"], told["sub_rewards"]) == (1, {"same": 1}, {})
    assert not any(told["metadata"]["errors"].values())
    multi = {"type": "multi", "name": "both", "graders": {"s": SAME, "c": CODE}, "calculate_output": "0.5 * s + 0.5 * c"}
    told = trial(client, multi, "yes", a="yes", most=6)
    assert (told["reward"], told["sub_rewards"]) == (0.75, {"s": 1, "c": 0.5})
    output = {"type": "string_check", "name": "j", "input": "{{sample.output_json.n}}", "reference": "1", "operation": "eq"}
    assert trial(client, output, '{"n": 1}')["reward"] == 1


@pytest.mark.parametrize(
    ("grader", "flag"),
    [
        (SAME, "invalid_variable_error"), (CODE | {"source": "def grade(sample, item): return item['x']"}, "python_grader_runtime_error"),
        ({"type": "multi", "name": "m", "graders": {"c": CODE}, "calculate_output": "c / 0"}, "other_error"),
    ],
)  # fmt: skip
def test_what_a_grader_fails_with_is_flagged(client, grader, flag):
    told = trial(client, grader)
    assert told["reward"] == 0
    assert [name for name, value in told["metadata"]["errors"].items() if value is True] == [flag]


def test_a_grader_is_validated(client):
    path = "/v1/fine_tuning/alpha/graders/validate"
    assert client.post(path, json={"grader": LIKE}).json() == {"grader": LIKE}
    assert client.post(path, json={"grader": LIKE | {"evaluation_metric": "meteor"}}).status_code == 400

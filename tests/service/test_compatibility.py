"""The compatibility page does not lie: it is what is declared and was seen, that is all of the contract, and what is declared is so."""
import re

import compatibility
import pytest
from compatibility import differences
from test_files import processed, upload
from wire_contract import SPECIFICATION, WHY_NOT, specification

ASK = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
TEXT = {"type": "string_check", "name": "same", "input": "{{sample.output_text}}", "reference": "{{item.a}}", "operation": "eq"}
ITEMS = {"type": "file_content", "content": [{"item": {"a": "x"}, "sample": {"output_text": "x"}}]}
EVAL = {"data_source_config": {"type": "custom", "item_schema": {"type": "object"}}, "testing_criteria": [TEXT]}
needs_contract = pytest.mark.skipif(not SPECIFICATION.is_file(), reason=WHY_NOT)


def fields_of(schema, components):
    """Of an object, or of what it is composed of."""
    if "$ref" in schema:
        return fields_of(components[schema["$ref"].rpartition("/")[2]], components)
    parts = [part for kind in ("allOf", "anyOf", "oneOf") for part in schema.get(kind, [])]
    return set(schema.get("properties", {})).union(*(fields_of(part, components) for part in parts))


def contract_fields(operation):
    """As `body.model`, `query.limit`, `response.id`."""
    method, path = operation.split(" ")
    told, components = specification()["paths"][path][method.lower()], specification()["components"]["schemas"]
    found = {f"query.{p['name']}" for p in told.get("parameters", []) if p["in"] == "query"}
    for content in told.get("requestBody", {}).get("content", {}).values():
        found |= {f"body.{name}" for name in fields_of(content["schema"], components)}
    answers = [answer for status, answer in told["responses"].items() if status.startswith("2")]
    for content in (answer["content"]["application/json"] for answer in answers if "application/json" in answer.get("content", {})):
        found |= {f"response.{name}" for name in fields_of(content["schema"], components)}
    return found


def operations():
    return [f"{m.upper()} {path}" for path, methods in specification()["paths"].items() for m in methods] if SPECIFICATION.is_file() else []


def test_the_page_is_what_is_declared_and_was_seen():
    assert compatibility.PAGE.read_text(encoding="utf-8") == compatibility.page(), "make compatibility"


def test_tests_that_it_names_are_there():
    texts = "".join(path.read_text(encoding="utf-8") for path in compatibility.HERE.rglob("test_*.py"))
    named = [row["test"] for part in compatibility.declared()["dialects"] for row in part["rows"]]
    assert len(named) > 10
    assert [name for name in named if not re.search(rf"^def {name}\(", texts, re.MULTILINE)] == []
    files = {file for things in compatibility.seen().values() for where in things.values() for file in where}
    assert files <= {path.name for path in compatibility.HERE.rglob("test_*.py")}


@needs_contract
@pytest.mark.parametrize("operation", operations())
def test_every_operation_and_field_of_the_contract_is_on_it(operation):
    seen, absent = compatibility.seen().get(operation, {}), compatibility.declared()["not_served"]
    assert (operation in absent) != ("200" in seen or "201" in seen)
    if operation not in absent:
        differ = {d.field for d in differences() if d.operation == operation and d.state != "ignored"}
        ignored = {d.field for d in differences() if d.operation == operation and d.state == "ignored"}
        assert contract_fields(operation) - seen.keys() - differ - ignored == set(), "seen by no test and not declared"
        assert differ & seen.keys() == set(), "declared to differ, and yet seen"


@pytest.mark.parametrize("operation", compatibility.declared()["not_served"])
def test_what_is_not_served_is_answered_so(server, operation, contract):
    method, path = operation.split(" ")
    answer = server.http().request(method, "/v1" + re.sub(r"\{\w+\}", "none", path), json={} if method == "POST" else None)
    assert answer.status_code in (404, 405)
    assert answer.json()["error"]["message"].startswith("Invalid URL")


@pytest.fixture(scope="module")
def asked(client):
    """For each operation a request that is taken."""
    file = processed(client, upload(client).id)
    made = client.evals.create(**EVAL)
    return {
        "POST /chat/completions": ASK, "POST /completions": {"model": "tiny", "prompt": "One", "max_tokens": 2},
        "POST /embeddings": {"model": "all-minilm-l6-v2", "input": "a cat"}, "POST /responses": {"model": "tiny", "input": "Hi", "max_output_tokens": 2},
        "POST /fine_tuning/jobs": {"model": "tiny", "training_file": file.id, "hyperparameters": {"n_epochs": 1}}, "POST /evals": EVAL,
        f"POST /evals/{made.id}/runs": {"data_source": {"type": "jsonl", "source": ITEMS}},
    }  # fmt: skip


@pytest.mark.parametrize("difference", [d for d in differences() if d.state != "absent"], ids=lambda d: f"{d.operation} {d.field} {d.state}")
def test_what_differs_is_answered_as_declared(server, asked, difference):
    wanted = difference.operation.replace("{eval_id}", "eval_[^/]+")
    (operation, base), *_ = [(name, body) for name, body in asked.items() if re.fullmatch(wanted, name)]
    assert difference.send
    answer = server.http().post("/v1" + operation.split(" ")[1], json=base | difference.send)
    assert answer.status_code == 400 if difference.state == "refused" else answer.status_code in (200, 201), answer.text
    if difference.state == "refused":
        said = answer.json()["error"]
        name = difference.field.split(".")[1].partition("=")[0]
        assert name in f"{said['param']} {said['message']}"


def test_lists_take_all_their_parameters(client):
    """The recorder sees them; that they do what they say is tested where the lists are."""
    job = client.fine_tuning.jobs.create(model="tiny", training_file=upload(client).id, hyperparameters={"n_epochs": 1})
    client.fine_tuning.jobs.cancel(job.id)
    made = client.evals.create(**EVAL)
    run = client.evals.runs.create(made.id, data_source={"type": "jsonl", "source": ITEMS}, metadata={"k": "v"}, name="run")
    page = {"limit": 1, "after": "none"}
    assert client.files.list(purpose="fine-tune", order="asc", **page).data is not None
    assert client.fine_tuning.jobs.list(metadata={"k": "v"}, **page).data == []
    assert client.fine_tuning.jobs.list_events(job.id, **page).data == []
    assert client.fine_tuning.jobs.checkpoints.list(job.id, **page).data == []
    assert client.evals.list(order="asc", order_by="updated_at", **page).data is not None
    assert client.evals.runs.list(made.id, order="desc", status="completed", **page).data is not None
    assert client.evals.runs.output_items.list(run.id, eval_id=made.id, order="desc", status="fail", **page).data is not None


def test_fields_that_few_clients_send_are_taken(client):
    """The recorder sees them; what they do is tested where they belong."""
    told = client.chat.completions.create(
        **ASK, temperature=0.5, top_p=0.9, n=1, seed=1, stop=["x"], frequency_penalty=0.1, presence_penalty=0.1, logit_bias={"5": 1},
        logprobs=True, top_logprobs=1, response_format={"type": "text"}, tools=[{"type": "function", "function": {"name": "f"}}],
        tool_choice="none", parallel_tool_calls=False,
    )  # fmt: skip
    assert told.choices
    client.chat.completions.create(model="tiny", messages=ASK["messages"], max_completion_tokens=2)
    list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
    asked = {"model": "tiny", "prompt": "One", "max_tokens": 2, "temperature": 0, "top_p": 0.9, "seed": 1, "stop": "x"}
    client.completions.create(**asked, n=1, best_of=1, echo=True, logprobs=1, frequency_penalty=0.1, presence_penalty=0.1, logit_bias={"5": 1})
    list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    client.embeddings.create(model="all-minilm-l6-v2", input="a cat", dimensions=384, encoding_format="float")
    client.responses.create(model="tiny", input="Hi", max_output_tokens=2, truncation="disabled", parallel_tool_calls=False, tool_choice="none", top_p=0.9)
    file, life = upload(client), {"anchor": "created_at", "seconds": 3600}
    client.fine_tuning.jobs.cancel(
        client.fine_tuning.jobs.create(
            model="tiny", training_file=file.id, validation_file=file.id, suffix="s", seed=1, metadata={"k": "v"},
            method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
        ).id
    )  # fmt: skip
    upload(client, expires_after=life)
    client.uploads.cancel(client.uploads.create(bytes=1, filename="a.jsonl", mime_type="text/jsonl", purpose="fine-tune", expires_after=life).id)
    made = client.evals.create(**EVAL, name="n", metadata={"k": "v"})
    assert client.evals.update(made.id, name="m", metadata={"k": "w"}).metadata == {"k": "w"}
    assert client.evals.retrieve(made.id).name == "m"
    talk = {"type": "item_reference", "item_reference": "item.talk"}
    items = [{"item": {"talk": ASK["messages"]}}] * 100
    asking = {"type": "completions", "model": "tiny", "input_messages": talk, "source": {"type": "file_content", "content": items}}
    run = client.evals.runs.create(made.id, data_source=asking)
    client.post(f"/evals/{made.id}/runs/{run.id}", cast_to=object)  # as published; the official client asks for …/cancel

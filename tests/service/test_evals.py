"""Evaluations through the official client: a real server, real answers, judges that are models, a kill in the middle of a run."""
import json

import pytest
from openai import OpenAI
from running import ADMIN_KEY, Server, wait_until

SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}, "a": {"type": "string"}}, "required": ["q", "a"]}
ALIKE = {
    "type": "text_similarity", "name": "alike", "input": "{{ sample.output_text }}", "reference": "{{ item.a }}",
    "evaluation_metric": "rouge_l", "pass_threshold": 0.9,
}  # fmt: skip
CODE = {"type": "python", "name": "code", "source": "def grade(sample, item) -> float:\n    return float(sample['finish_reason'] == 'length')"}


def judge(kind, **more):
    ask = [{"role": "developer", "content": "You judge."}, {"role": "user", "content": "{{item.q}} {{sample.output_text}}?"}]
    return {"type": kind, "name": kind, "model": "judge", "input": ask} | more


def items(n):
    return [{"item": {"q": f"What is {i}?", "a": f"It is {i}."}} for i in range(n)]


def asking(n, **sampling):
    template = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "{{ item.q }}"}]
    return {
        "type": "completions", "model": "tiny", "input_messages": {"type": "template", "template": template},
        "sampling_params": {"temperature": 0, "max_completion_tokens": 8} | sampling, "source": {"type": "file_content", "content": items(n)},
    }  # fmt: skip


def finished(client, run):
    def done():
        now = client.evals.runs.retrieve(run.id, eval_id=run.eval_id)
        return now if now.status not in ("queued", "in_progress") else None

    return wait_until(done)


def make(client, *criteria):
    return client.evals.create(name="short answers", data_source_config={"type": "custom", "item_schema": SCHEMA}, testing_criteria=criteria)


def test_a_model_is_evaluated(server, client, contract):
    server.http().post("/v1/deployments", json={"name": "judge", "model": "tiny"})
    made = make(client, ALIKE, CODE, judge("label_model", labels=["good", "bad"], passing_labels=["good"]), judge("score_model", range=[1, 5]))
    run = finished(client, client.evals.runs.create(made.id, name="first", data_source=asking(5)))
    assert (run.status, run.model, run.result_counts.total, run.result_counts.errored) == ("completed", "tiny", 5, 0)
    usage = {used.model_name: used for used in run.per_model_usage}
    assert (usage["tiny"].invocation_count, usage["tiny"].completion_tokens, usage["judge"].invocation_count) == (5, 40, 10)
    by_name = {result.testing_criteria: (result.passed, result.failed) for result in run.per_testing_criteria_results}
    assert (by_name["code"], by_name["alike"]) == ((5, 0), (0, 5))
    shown = list(client.evals.runs.output_items.list(run.id, eval_id=made.id, limit=2))
    assert sorted(item.datasource_item_id for item in shown) == [0, 1, 2, 3, 4]
    one = client.evals.runs.output_items.retrieve(shown[0].id, eval_id=made.id, run_id=run.id)
    _, _, label, score = one.results
    assert json.loads(label.sample["output"][0]["content"])["result"] in ("good", "bad")
    assert 1 <= score.score <= 5
    said = client.chat.completions.create(
        model="tiny", temperature=0, max_tokens=8, messages=[{"role": m.role, "content": m.content} for m in one.sample.input]
    )
    assert one.sample.output[0].content == said.choices[0].message.content


def test_messages_of_the_item_in_the_words_of_responses(client):
    made = client.evals.create(
        data_source_config={"type": "custom", "item_schema": {"type": "object"}},
        testing_criteria=[{"type": "string_check", "name": "n", "input": "{{sample.output_json.n}}", "reference": "none", "operation": "ne"}],
    )
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 99}}, "required": ["n"], "additionalProperties": False}
    source = {
        "type": "responses", "model": "tiny", "input_messages": {"type": "item_reference", "item_reference": "item.talk"},
        "sampling_params": {"temperature": 0, "text": {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}}},
        "source": {"type": "file_content", "content": [{"item": {"talk": [{"role": "user", "content": "Say one."}]}}, {"item": {"talk": "no"}}]},
    }  # fmt: skip
    run = finished(client, client.evals.runs.create(made.id, data_source=source))
    assert (run.result_counts.passed, run.result_counts.errored) == (1, 1)


def test_evaluations_and_graders_are_managed(client, server):
    made = make(client, ALIKE)
    assert client.evals.update(made.id, name="renamed").name == "renamed"
    assert made.id in [e.id for e in client.evals.list(limit=1)]
    run = client.evals.runs.create(made.id, data_source=asking(30, max_completion_tokens=100))
    unchecked = OpenAI(base_url=f"{server.url}/v1", api_key=ADMIN_KEY)  # it asks for …/cancel, which the published description lacks
    assert unchecked.evals.runs.cancel(run.id, eval_id=made.id).status == "canceled"
    assert [r.id for r in client.evals.runs.list(made.id)] == [run.id]
    assert client.evals.runs.delete(run.id, eval_id=made.id).deleted
    assert client.evals.delete(made.id).deleted
    azure = OpenAI(base_url=f"{server.url}/openai/v1", api_key=ADMIN_KEY)
    assert isinstance(azure.evals.list().data, list)
    graders = client.fine_tuning.alpha.graders
    cosine = {"type": "text_similarity", "name": "c", "input": "{{sample.output_text}}", "reference": "{{item.a}}", "evaluation_metric": "cosine"}
    same, other = (graders.run(grader=cosine, model_sample=said, item={"a": "a small cat"}).reward for said in ("a small cat", "tax law"))
    assert same == pytest.approx(1, abs=1e-4)
    assert other < 0.5
    assert graders.validate(grader=cosine).grader.name == "c"


def test_a_killed_server_goes_on_with_a_run_and_repeats_nothing(tmp_path, tiny_model):
    server = Server(tmp_path, "--model", f"tiny={tiny_model}").start()
    try:
        client = server.client()
        made = make(client, CODE)
        run = client.evals.runs.create(made.id, data_source=asking(24, max_completion_tokens=40))
        wait_until(lambda: client.evals.runs.retrieve(run.id, eval_id=made.id).result_counts.passed >= 6, every_s=0.01)
        server.kill()
        server.start()
        client = server.client()
        before = {item.id for item in client.evals.runs.output_items.list(run.id, eval_id=made.id, limit=100)}
        ended = finished(client, run)
        assert (ended.status, ended.result_counts.passed, ended.per_testing_criteria_results[0].passed) == ("completed", 24, 24)
        after = list(client.evals.runs.output_items.list(run.id, eval_id=made.id, limit=7))
        assert sorted(item.datasource_item_id for item in after) == list(range(24))
        assert before <= {item.id for item in after}
    finally:
        server.stop()

"""Chat and text completions through the official client: a real server, a real engine."""
import json

import pytest
from openai import AzureOpenAI, BadRequestError, NotFoundError, OpenAI
from running import ADMIN_KEY, wait_until
from test_jobs import ended, start

ASK = [{"role": "user", "content": "What is 1+3?"}]


def chat(client, **more):
    return client.chat.completions.create(**({"model": "tiny", "messages": ASK, "temperature": 0, "max_tokens": 12} | more))


@pytest.fixture(scope="module")
def tuned(client):
    """A model that has learnt its few lines by heart."""
    return ended(client, start(client, hyperparameters={"n_epochs": 40, "batch_size": 4, "learning_rate_multiplier": 5}).id).fine_tuned_model


def test_a_base_model_answers_by_its_name(client, contract):
    first, again = chat(client), chat(client)
    assert first.choices[0].message.content == again.choices[0].message.content
    assert (first.choices[0].finish_reason, first.usage.completion_tokens) == ("length", 12)
    assert again.usage.prompt_tokens_details.cached_tokens >= 0
    assert first.id != again.id


def gathered(chunks):
    """Of two streamed choices: their texts, why they ended, and the usage that comes last."""
    texts, reasons, usage = {0: "", 1: ""}, {}, None
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason
        usage = chunk.usage
    return texts, reasons, usage


def test_a_stream_is_the_same_answer_in_pieces(client):
    whole = chat(client, n=2, stop=["zzz"])
    texts, reasons, usage = gathered(chat(client, n=2, stop=["zzz"], stream=True, stream_options={"include_usage": True}))
    assert [texts[0], texts[1]] == [c.message.content for c in whole.choices]
    assert set(reasons.values()) == {"length"}
    assert (usage.prompt_tokens, usage.completion_tokens) == (whole.usage.prompt_tokens, 24)


def test_a_tuned_model_answers_what_it_has_learnt(client, tuned):
    assert chat(client, model=tuned).choices[0].message.content.startswith("It is")
    assert not chat(client).choices[0].message.content.startswith("It is")
    (checkpoint,) = [m.id for m in client.models.list() if m.id.startswith(f"{tuned}:ckpt-step-120")]
    assert chat(client, model=checkpoint).choices[0].message.content == chat(client, model=tuned).choices[0].message.content


def test_what_a_tuned_model_costs_and_has_answered(server, client, tuned):
    (job,) = [j.id for j in client.fine_tuning.jobs.list(limit=100) if j.fine_tuned_model == tuned]

    def told():
        cost = server.http().get(f"/v1/fine_tuning/jobs/{job}/cost").json()
        return cost["inference"]["requests"] >= 1 and cost

    asked = chat(client, model=tuned).usage
    cost = wait_until(told)
    assert cost["training"]["seconds"] > 0
    assert cost["training"]["tokens"] > cost["training"]["amount"] == 0  # nobody has said what this machine costs
    assert cost["inference"]["input_tokens"] >= asked.prompt_tokens
    assert cost["inference"]["output_tokens"] >= asked.completion_tokens
    assert json.loads(server.run("cost", job, "--json"))["training"] == cost["training"]


def test_an_answer_is_held_to_a_schema(client):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 99}}, "required": ["n"], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "number", "schema": schema, "strict": True}}
    answer = json.loads(chat(client, response_format=wanted, max_tokens=60).choices[0].message.content)
    assert list(answer) == ["n"]
    assert isinstance(answer["n"], int)


def test_log_probabilities_come_with_their_alternatives(client):
    choice = chat(client, logprobs=True, top_logprobs=3).choices[0]
    assert len(choice.logprobs.content) == 12
    for token in choice.logprobs.content:
        assert token.logprob == max(t.logprob for t in token.top_logprobs)  # greedy
        assert len(token.top_logprobs) == 3


def test_completions_as_evaluation_harnesses_ask_for_them(server):
    """Token-id prompts, echoed, with the log-probabilities of the prompt's own tokens."""
    answer = server.http().post(
        "/v1/completions",
        json={"model": "tiny", "prompt": [[5, 6, 7, 8], [9, 10]], "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0},
    ).json()  # fmt: skip
    first, second = answer["choices"]
    assert [c["index"] for c in answer["choices"]] == [0, 1]
    assert (len(first["logprobs"]["token_logprobs"]), len(second["logprobs"]["token_logprobs"])) == (5, 3)
    assert first["logprobs"]["token_logprobs"][0] is None
    for logprob, top in zip(first["logprobs"]["token_logprobs"][1:], first["logprobs"]["top_logprobs"][1:], strict=True):
        assert logprob in top.values()
        assert logprob <= max(top.values())
    assert first["logprobs"]["token_logprobs"][-1] == max(first["logprobs"]["top_logprobs"][-1].values())


def test_parts_of_characters_are_told_apart(server):
    """All are the same text, and yet only one token can be the likeliest in its place."""
    parts = server.http().post("/v1/tokenize", json={"model": "tiny", "prompt": "éüß日本🙂€ñЖ", "add_special_tokens": False}).json()["tokens"]
    asked = {"model": "tiny", "prompt": [[5, 6, 7, part] for part in set(parts)], "max_tokens": 0, "logprobs": 1, "echo": True}
    shown = [choice["logprobs"] for choice in server.http().post("/v1/completions", json=asked).json()["choices"]]
    assert len({logprobs["tokens"][-1] for logprobs in shown}) == len(set(parts)) > 10
    assert all(logprobs["tokens"][-1].startswith("bytes:\\x") for logprobs in shown)
    assert sum(logprobs["token_logprobs"][-1] == max(logprobs["top_logprobs"][-1].values()) for logprobs in shown) <= 1


def test_text_goes_on_streamed_or_not(client):
    asked = {"model": "tiny", "prompt": "One two three", "max_tokens": 8, "temperature": 0}
    whole = client.completions.create(**asked)
    streamed = "".join(c.text for chunk in client.completions.create(**asked, stream=True) for c in chunk.choices)
    assert whole.choices[0].text == streamed
    assert whole.usage.completion_tokens == 8


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"model": "gpt-9"}, NotFoundError, "Models: tiny"),
        ({"messages": [{"role": "user", "content": "word " * 5000}]}, BadRequestError, "exceeds the model's 512"),
        ({"temperature": 3}, BadRequestError, "temperature"),
        ({"top_logprobs": 2}, BadRequestError, "logprobs"),
        ({"extra_body": {"temprature": 1}}, BadRequestError, "temprature"),
    ],
)
def test_what_cannot_be_answered_is_refused(client, change, kind, message):
    with pytest.raises(kind, match=message):
        chat(client, **change)
    if change.get("model") is None and "extra_body" not in change:
        with pytest.raises(kind, match=message):
            list(chat(client, stream=True, **change))


def test_embeddings_in_both_encodings(client, server):
    asked = {"model": "all-minilm-l6-v2", "input": ["a cat", "a kitten", "tax law"]}
    floats = client.embeddings.create(**asked, encoding_format="float")
    with OpenAI(base_url=f"{server.url}/v1", api_key=ADMIN_KEY) as plain:
        packed = plain.embeddings.create(**asked)  # asks for base64
    cat, kitten, law = (e.embedding for e in floats.data)
    assert packed.data[0].embedding == pytest.approx(cat, abs=1e-6)
    assert floats.usage.prompt_tokens > 6

    def likeness(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert likeness(cat, kitten) > likeness(cat, law) + 0.3
    assert likeness(cat, cat) == pytest.approx(1, abs=1e-5)


def test_azures_client_asks_by_deployment(client, server):
    with AzureOpenAI(azure_endpoint=server.url, api_key=ADMIN_KEY, api_version="2024-10-21", max_retries=0) as azure:
        assert chat(azure).choices[0].message.content == chat(client).choices[0].message.content
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chat(azure, stream=True))
        assert streamed == chat(client).choices[0].message.content
        assert azure.completions.create(model="tiny", prompt="One", max_tokens=2, temperature=0).usage.completion_tokens == 2
        assert len(azure.embeddings.create(model="all-minilm-l6-v2", input="a cat").data[0].embedding) == 384
        with pytest.raises(NotFoundError):
            chat(azure, model="gpt-9")
        with pytest.raises(BadRequestError, match="temperature"):
            chat(azure, temperature=3)


def test_azures_undated_paths_are_openais(client, server):
    with OpenAI(base_url=f"{server.url}/openai/v1", api_key=ADMIN_KEY) as azure:
        assert chat(azure).choices[0].message.content == chat(client).choices[0].message.content
        assert [m.id for m in azure.models.list()] == [m.id for m in client.models.list()]

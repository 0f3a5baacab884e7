"""/v1/responses and /tokenize: the official client, a real server, a real engine."""
import json

import pytest
from openai import BadRequestError, OpenAI
from running import ADMIN_KEY
from wire_contract import SPECIFICATION, validator

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 99}}, "required": ["n"], "additionalProperties": False}
PLACE = {"type": "object", "properties": {"city": {"enum": ["Basel", "Oslo"]}}, "required": ["city"], "additionalProperties": False}
WEATHER = {"type": "function", "name": "weather", "parameters": PLACE, "strict": True}
FORCED = {"tools": [WEATHER], "tool_choice": "required", "max_output_tokens": 60}


def respond(client, **more):
    return client.responses.create(**({"model": "tiny", "input": "What is 1+3?", "temperature": 0, "max_output_tokens": 12} | more))


def events(client, **more):
    """The stream's events, each held against the contract, in order and numbered."""
    told = list(respond(client, stream=True, **more))
    assert [e.sequence_number for e in told] == list(range(len(told)))
    if SPECIFICATION.is_file():
        events_form = validator(json.dumps({"$ref": "#/components/schemas/ResponseStreamEvent"}))
        for event in told:
            events_form.validate(event.to_dict())
    return told


def text_of(told):
    return "".join(e.delta for e in told if e.type == "response.output_text.delta")


@pytest.fixture(scope="module")
def by_chat(client):
    """What a chat with the same conversation answers."""

    def ask(*messages):
        asked = client.chat.completions.create(model="tiny", messages=list(messages), temperature=0, max_tokens=12)
        return asked.choices[0].message.content

    return ask


def test_a_response_is_what_a_chat_answers(client, by_chat, contract):
    answer = respond(client, instructions="Be brief.", metadata={"a": "b"})
    assert answer.output_text == by_chat({"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 1+3?"})
    assert (answer.status, answer.incomplete_details.reason, answer.metadata) == ("incomplete", "max_output_tokens", {"a": "b"})
    assert (answer.usage.output_tokens, answer.usage.total_tokens) == (12, 12 + answer.usage.input_tokens)
    assert (answer.output[0].status, answer.store, answer.instructions) == ("incomplete", False, "Be brief.")


def test_items_are_the_conversation(client, by_chat):
    parts = [{"type": "input_text", "text": "What is "}, {"type": "input_text", "text": "1+3?"}]
    first = respond(client, input=[{"role": "user", "content": parts}])
    assert first.output_text == respond(client).output_text
    again = respond(client, input=[{"role": "user", "content": "What is 1+3?"}, *first.output, {"role": "user", "content": "Sure?"}])
    said = {"role": "assistant", "content": first.output_text}
    assert again.output_text == by_chat({"role": "user", "content": "What is 1+3?"}, said, {"role": "user", "content": "Sure?"})


def test_a_stream_tells_of_the_same_response_in_typed_events(client):
    whole = respond(client)
    told = events(client)
    kinds = list(dict.fromkeys(e.type for e in told))
    assert kinds == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.done", "response.content_part.done", "response.output_item.done",
        "response.incomplete",
    ]  # fmt: skip
    assert text_of(told) == whole.output_text == told[-1].response.output_text
    assert told[-1].response.usage.output_tokens == 12
    assert told[0].response.output == []
    with client.responses.stream(model="tiny", input="What is 1+3?", temperature=0, max_output_tokens=12) as stream:  # the client's own reader
        assert "".join(e.delta for e in stream if e.type == "response.output_text.delta") == whole.output_text


def test_a_response_is_held_to_a_schema(client):
    wanted = {"format": {"type": "json_schema", "name": "number", "schema": SCHEMA, "strict": True}}
    answer = respond(client, text=wanted, max_output_tokens=60)
    assert (list(json.loads(answer.output_text)), answer.status, answer.text.format.name) == (["n"], "completed", "number")
    told = events(client, text=wanted, max_output_tokens=60)
    assert (told[-1].type, text_of(told)) == ("response.completed", answer.output_text)


def test_log_probabilities_where_they_are_included(client):
    (part,) = respond(client, include=["message.output_text.logprobs"], top_logprobs=2).output[0].content
    assert (len(part.logprobs), len(part.logprobs[0].top_logprobs)) == (12, 2)
    told = events(client, top_logprobs=2)
    assert sum(len(e.logprobs) for e in told if e.type == "response.output_text.delta") == 12


def test_a_function_is_called_and_its_result_read(client):
    answer = respond(client, **FORCED)
    (call,) = answer.output
    assert (call.type, call.name, call.status, answer.status) == ("function_call", "weather", "completed", "completed")
    assert json.loads(call.arguments) in ({"city": "Basel"}, {"city": "Oslo"})
    told = events(client, **FORCED)
    assert [e.type.removeprefix("response.") for e in told][2:] == [
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert told[-1].response.output[0].arguments == call.arguments
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "dry"}
    after = respond(client, input=[{"role": "user", "content": "Rain?"}, call, result], tools=[WEATHER], tool_choice="none")
    chat = client.chat.completions.create(
        model="tiny", temperature=0, max_tokens=12,
        messages=[
            {"role": "user", "content": "Rain?"},
            {"role": "assistant", "tool_calls": [{"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}]},
            {"role": "tool", "tool_call_id": call.call_id, "content": "dry"},
        ],
        tools=[{"type": "function", "function": {"name": "weather", "parameters": PLACE}}], tool_choice="none",
    )  # fmt: skip
    assert after.output_text == chat.choices[0].message.content
    assert after.usage.input_tokens == chat.usage.prompt_tokens


def test_azures_undated_path_answers_the_same(client, server):
    with OpenAI(base_url=f"{server.url}/openai/v1", api_key=ADMIN_KEY) as azure:
        assert respond(azure).output_text == respond(client).output_text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"previous_response_id": "resp_1"}, "not kept here. Send the whole conversation"),
        ({"conversation": "conv_1"}, "not kept"),
        ({"background": True}, "not kept"),
        ({"input": []}, "no input"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "item_reference"),
        ({"tools": [{"type": "web_search"}]}, "'function'"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "no tools"),
        ({"tools": [WEATHER], "text": {"format": {"type": "json_object"}}}, "together with tools"),
        ({"truncation": "auto"}, "disabled"),
        ({"input": "word " * 5000}, "exceeds the model's 512"),
    ],
)
def test_what_cannot_be_answered_is_refused(client, change, said):
    with pytest.raises(BadRequestError, match=said):
        respond(client, **change)
    with pytest.raises(BadRequestError, match=said):
        list(respond(client, stream=True, **change))


def test_tokens_are_those_that_the_engine_counts(server, client):
    http = server.http()
    messages = [{"role": "user", "content": "What is 1+3? <|im_end|>"}]
    chat = client.chat.completions.create(model="tiny", messages=messages, max_tokens=1)
    for path in ("/tokenize", "/v1/tokenize", "/openai/v1/tokenize"):
        found = http.post(path, json={"model": "tiny", "messages": messages}).raise_for_status().json()
        assert (found["count"], found["max_model_len"], found["token_strs"]) == (chat.usage.prompt_tokens, 512, None)
    shorter = http.post("/tokenize", json={"model": "tiny", "messages": messages, "add_generation_prompt": False}).json()
    assert found["tokens"][: shorter["count"]] == shorter["tokens"]
    assert shorter["count"] < found["count"] == len(found["tokens"])
    text = http.post("/detokenize", json={"model": "tiny", "tokens": found["tokens"]}).json()["prompt"]
    assert text == "<|im_start|>user\nWhat is 1+3? <|im_end|><|im_end|>\n<|im_start|>assistant\n"
    plain = http.post("/tokenize", json={"model": "tiny", "prompt": "One, zwö", "add_special_tokens": False, "return_token_strs": True}).json()
    assert http.post("/detokenize", json={"model": "tiny", "tokens": plain["tokens"]}).json() == {"prompt": "One, zwö"}
    assert len(plain["token_strs"]) == plain["count"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("tokenize", {"model": "tiny"}, 400),
        ("tokenize", {"model": "tiny", "prompt": "a", "messages": [{"role": "user", "content": "a"}]}, 400),
        ("tokenize", {"model": "tiny", "messages": [{"role": "user", "content": "a"}], "add_special_tokens": True}, 400),
        ("tokenize", {"model": "none", "prompt": "a"}, 404),
        ("detokenize", {"model": "tiny", "tokens": [-1]}, 400),
        ("detokenize", {"model": "tiny", "tokens": [4294967296]}, 400),
    ],
)
def test_tokens_of_nothing_are_refused(server, path, body, status):
    answer = server.http().post(f"/{path}", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert server.http(key=None).post(f"/{path}", json=body).status_code == 401

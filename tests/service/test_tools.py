"""Function tools through the official client: a model that was tuned on calls, a real server, a real engine."""
import json

import pytest
from openai import AzureOpenAI, BadRequestError
from running import ADMIN_KEY
from test_files import upload
from test_jobs import ended

PARAMETERS = {"type": "object", "properties": {"city": {"enum": ["Basel", "Oslo"]}}, "required": ["city"], "additionalProperties": False}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
TOOLS = [WEATHER, CLOCK]
CALL = {"id": "abcdefgh1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Basel"}'}}
ASK = [{"role": "user", "content": "Rain in Basel?"}]
ANSWERED = [*ASK, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "dry", "tool_call_id": "abcdefgh1"}]


def lines():
    calls = {"messages": [*ASK, {"role": "assistant", "tool_calls": [CALL]}], "tools": TOOLS}
    says = {"messages": [*ANSWERED, {"role": "assistant", "content": "It is dry."}], "tools": TOOLS}
    greets = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}], "tools": TOOLS}
    return "".join(json.dumps(line) + "\n" for line in [calls, says, greets] * 4).encode()


def tune(client, content):
    """The name of a model that has learnt these lines."""
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 20, "batch_size": 4, "learning_rate_multiplier": 2}}}
    job = client.fine_tuning.jobs.create(model="tiny", training_file=upload(client, content).id, method=method, seed=7)
    return ended(client, job.id).fine_tuned_model


@pytest.fixture(scope="module")
def tuned(client):
    """Has learnt when to call, when to tell what came of it, and when just to talk."""
    return tune(client, lines())


def ask(client, model, messages=ASK, **more):
    asked = {"model": model, "messages": messages, "tools": TOOLS, "temperature": 0, "max_tokens": 60}
    return client.chat.completions.create(**(asked | more))


def streamed(client, model, **more):
    """Content, calls, and how it ended, put together as clients do."""
    content, calls, reason = "", {}, None
    for chunk in ask(client, model, stream=True, **more):
        (choice,) = chunk.choices
        content += choice.delta.content or ""
        for call in choice.delta.tool_calls or []:
            name, arguments = calls.get(call.index, ("", ""))
            calls[call.index] = (name + (call.function.name or ""), arguments + (call.function.arguments or ""))
        reason = choice.finish_reason
    return content, list(calls.values()), reason


def test_a_tuned_model_calls_reads_the_result_and_talks(client, tuned, contract):
    choice = ask(client, tuned).choices[0]
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert (call.type, call.function.name, json.loads(call.function.arguments)) == ("function", "weather", {"city": "Basel"})
    assert streamed(client, tuned) == ("", [("weather", call.function.arguments)], "tool_calls")
    result = {"role": "tool", "content": "dry", "tool_call_id": call.id}
    told = ask(client, tuned, [*ASK, choice.message, result]).choices[0]
    assert (told.message.content, told.message.tool_calls, told.finish_reason) == ("It is dry.", None, "stop")
    assert streamed(client, tuned, messages=[{"role": "user", "content": "Hi"}]) == ("Hello.", [], "stop")
    assert "<tool_call>" in ask(client, tuned, tool_choice="none").choices[0].message.content  # nobody looks for calls


@pytest.mark.parametrize(
    ("choice", "names"), [("required", {"weather", "clock"}), ({"type": "function", "function": {"name": "weather"}}, {"weather"})]
)
def test_a_base_model_is_made_to_call(client, choice, names):
    (call,) = ask(client, "tiny", tool_choice=choice).choices[0].message.tool_calls
    assert call.function.name in names
    assert json.loads(call.function.arguments) in ({"city": "Basel"}, {"city": "Oslo"}) if call.function.name == "weather" else ({},)
    content, calls, reason = streamed(client, "tiny", tool_choice=choice)
    assert (content, calls, reason) == ("", [(call.function.name, call.function.arguments)], "tool_calls")


def test_azures_client_gets_calls_too(server, client, tuned):
    with AzureOpenAI(azure_endpoint=server.url, api_key=ADMIN_KEY, api_version="2024-10-21", max_retries=0) as azure:
        (call,) = ask(azure, tuned).choices[0].message.tool_calls
        assert call.function == ask(client, tuned).choices[0].message.tool_calls[0].function
        with pytest.raises(BadRequestError, match="tool_choice names 'no'"):
            ask(azure, tuned, tool_choice={"type": "function", "function": {"name": "no"}})

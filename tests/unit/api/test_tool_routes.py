"""What can be asked of which model with tools; the answers themselves are in tests/service/test_tools.py."""
import pytest

from in_process import application
from tiny import CHATML, NO_SYSTEM, make_tiny_model

TEMPLATES = {
    "tiny": CHATML,
    "simple": NO_SYSTEM,
    "named": CHATML.replace("<tool_call>{{ c.function | tojson }}</tool_call>", "[CALL]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}"),
    "spoken": CHATML.replace("{{ c.function | tojson }}", "{{ c.function.name }}"),
}
ASK = [{"role": "user", "content": "Rain?"}]
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def tool(name="f", **more):
    return {"type": "function", "function": {"name": name, **more}}


def named(name):
    return {"type": "function", "function": {"name": name}}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    models = {name: make_tiny_model(folder / name, template=template) for name, template in TEMPLATES.items()}
    with application(tmp_path_factory.mktemp("service"), models=models) as (_, client):
        yield client


@pytest.mark.parametrize(
    ("asked", "param", "said"),
    [
        ({"model": "simple", "tools": [tool()]}, "tools", "chat template does not show tools"),
        ({"model": "simple", "tools": [tool()], "tool_choice": "none"}, "tools", "does not show tools"),
        ({"model": "spoken", "tools": [tool()]}, "tools", "no form of calls that can be read"),
        ({"model": "simple", "messages": [*ASK, {"role": "assistant", "tool_calls": [CALL]}, *ASK]}, "messages", "does not show earlier calls"),
        ({"model": "named", "tools": [tool(), tool("g")], "tool_choice": "required"}, "tool_choice", "one of several"),
        ({"tool_choice": "required"}, "tool_choice", "no tools"),
        ({"tools": [], "tool_choice": named("f")}, "tool_choice", "no tools"),
        ({"tools": [tool()], "tool_choice": named("g")}, "tool_choice", "the tools are: f"),
        ({"tools": [tool(), tool()]}, "tools", "same name"),
        ({"tools": [tool()], "response_format": {"type": "json_object"}}, "response_format", "together with tools"),
        ({"tools": [tool("has space")]}, "tools.0.function.name", "pattern"),
        ({"tools": [tool(parametres={})]}, "tools.0.function.parametres", "Extra"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools.0.type", "'function'"),
        ({"tools": [tool()], "tool_choice": "always"}, "tool_choice", "'required'"),
        ({"tools": [tool(parameters={"properties": {"a": {"$ref": "#/nowhere"}}})], "tool_choice": "required"}, None, "cannot be enforced"),
    ],
)
def test_what_cannot_be_met_is_refused(client, asked, param, said):
    answer = client.post("/v1/chat/completions", json={"model": "tiny", "messages": ASK, **asked})
    error = answer.json()["error"]
    assert answer.status_code == 400, error
    assert said in error["message"]
    assert param is None or error["param"].startswith(param)


def test_a_name_outside_of_the_json_can_be_forced(client):
    asked = {"model": "named", "messages": ASK, "tools": [tool(), tool("g")], "tool_choice": named("g"), "max_tokens": 20}
    choice = client.post("/v1/chat/completions", json=asked).json()["choices"][0]
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "g", "arguments": "{}"}
    assert choice["finish_reason"] == "tool_calls"


def test_a_forced_call_that_does_not_fit_is_told_as_far_as_it_goes(client):
    words = {"type": "array", "items": {"$ref": "#/$defs/word"}, "minItems": 50}
    parameters = {"properties": {"list": words}, "required": ["list"], "$defs": {"word": {"const": "again"}}}
    asked = {"model": "tiny", "messages": ASK, "tools": [tool(parameters=parameters)], "tool_choice": "required", "max_tokens": 60, "logprobs": True}
    choice = client.post("/v1/chat/completions", json=asked).json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"].replace(" ", "").startswith('{"list":["again","again"')
    assert len(choice["logprobs"]["content"]) == 60

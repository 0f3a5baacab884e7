"""LangChain's ChatOpenAI and AzureChatOpenAI in a process of their own, with a model that was tuned on calls."""
import json
from pathlib import Path

import pytest
from running import ADMIN_KEY
from test_tools import TOOLS, lines, tune

from installed import python_of, run

pytestmark = pytest.mark.timeout(900)  # the first time, packages are installed
ASKING = Path(__file__).with_name("asking_langchain.py")


@pytest.fixture(scope="module")
def told(client, relay):
    """What the program in `asking_langchain.py` has seen, by what it asked for."""
    python = python_of("langchain")
    printed = run(python, str(ASKING), relay.url, ADMIN_KEY, tune(client, lines()), json.dumps(TOOLS))
    assert "POST /openai/deployments/tiny/chat/completions" in relay.paths
    return json.loads(printed)


@pytest.fixture(scope="module")
def said(client):
    """What the official client is answered."""
    asked = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "What is 1+3?"}], temperature=0, max_tokens=12)
    return asked.choices[0].message.content, asked.usage


def test_answers_and_their_usage(told, said):
    text, usage = said
    counts = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens, "total_tokens": usage.total_tokens}
    for way in ("invoke", "stream", "azure", "azure_stream", "async", "batch"):
        assert told[way]["content"] == text, way
        assert told[way]["usage"] == counts, way
    assert told["stream"]["pieces"] > 3
    assert told["responses"] == text
    assert len(told["logprobs"]) == 12


def test_tools_are_bound_called_and_answered(told):
    weather = [{"name": "weather", "args": {"city": "Basel"}}]
    assert (told["tool"], told["tool_streamed"], told["azure_tool"]) == (weather, weather, weather)
    assert told["tool_answered"] == "It is dry."
    assert [call["name"] for call in told["forced"]] == ["clock"]


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "azure"])
def test_structured_output_is_of_its_form(told, method):
    assert told["structured"][method] in ({"city": "Basel"}, {"city": "Oslo"})
    assert isinstance(told["structured"]["json_mode"], dict)


def test_what_is_refused_is_openais_error(told):
    assert told["refused"] == ["NotFoundError", "BadRequestError"]

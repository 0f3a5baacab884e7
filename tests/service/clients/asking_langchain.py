"""Run in LangChain's environment: `python asking_langchain.py URL KEY TUNED TOOLS`. Prints what it was answered, as JSON."""
import asyncio
import json
import sys
from typing import Literal

import openai
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import BaseModel, ConfigDict

URL, KEY, TUNED, TOOLS = sys.argv[1:]
ASK = "What is 1+3?"
OURS = {"base_url": f"{URL}/v1", "api_key": KEY, "temperature": 0, "max_retries": 0}
AZURE = {"azure_endpoint": URL, "api_key": KEY, "api_version": "2024-10-21", "temperature": 0, "max_retries": 0}


class Place(BaseModel):
    """Where it rains."""

    model_config = ConfigDict(extra="forbid")
    city: Literal["Basel", "Oslo"]


def told(message, **more):
    usage = message.usage_metadata or {}
    return {"content": message.content, "usage": {k: v for k, v in usage.items() if not k.endswith("_details")}} | more


def streamed(model, asked):
    pieces = list(model.stream(asked))
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    return whole, len(pieces)


def calls(message):
    return [{"name": call["name"], "args": call["args"]} for call in message.tool_calls]


def refusal(ask):
    try:
        ask()
    except openai.APIError as error:
        return type(error).__name__ if "OpenAI" not in type(error).__name__ else type(error).__mro__[1].__name__
    return "nothing"


def main():
    chat, azure = ChatOpenAI(model="tiny", max_tokens=12, **OURS), AzureChatOpenAI(azure_deployment="tiny", max_tokens=12, **AZURE)
    whole, pieces = streamed(ChatOpenAI(model="tiny", max_tokens=12, stream_usage=True, **OURS), ASK)
    azure_whole, _ = streamed(AzureChatOpenAI(azure_deployment="tiny", max_tokens=12, stream_usage=True, **AZURE), ASK)
    seen = {
        "invoke": told(chat.invoke(ASK)), "stream": told(whole, pieces=pieces), "azure": told(azure.invoke(ASK)), "azure_stream": told(azure_whole),
        "async": told(asyncio.run(ChatOpenAI(model="tiny", max_tokens=12, **OURS).ainvoke(ASK))), "batch": told(chat.batch([ASK, ASK])[1]),
        "responses": ChatOpenAI(model="tiny", max_tokens=12, use_responses_api=True, **OURS).invoke(ASK).text,
        "logprobs": chat.bind(logprobs=True, top_logprobs=2).invoke(ASK).response_metadata["logprobs"]["content"],
    }  # fmt: skip
    caller = ChatOpenAI(model=TUNED, max_tokens=60, **OURS)
    tools = json.loads(TOOLS)
    bound, question = caller.bind_tools(tools), HumanMessage("Rain in Basel?")
    first = bound.invoke([question])
    results = [ToolMessage("dry", tool_call_id=call["id"]) for call in first.tool_calls]
    seen |= {
        "tool": calls(first), "tool_streamed": calls(streamed(bound, [question])[0]),
        "azure_tool": calls(AzureChatOpenAI(azure_deployment=TUNED, max_tokens=60, **AZURE).bind_tools(tools).invoke([question])),
        "tool_answered": bound.invoke([question, first, *results]).content,
        "forced": calls(caller.bind_tools(tools, tool_choice="clock").invoke([question])),
        "structured": {
            method: caller.with_structured_output(Place, method=method).invoke("Where?").model_dump() for method in ("json_schema", "function_calling")
        },
        "refused": [
            refusal(lambda: ChatOpenAI(model="gpt-9", **OURS).invoke(ASK)), refusal(lambda: ChatOpenAI(model="tiny", **OURS).invoke("word " * 5000)),
        ],
    }  # fmt: skip
    seen["structured"]["json_mode"] = ChatOpenAI(model=TUNED, max_tokens=200, **OURS).with_structured_output(None, method="json_mode").invoke("Where? As JSON.")
    structured = AzureChatOpenAI(azure_deployment=TUNED, max_tokens=60, **AZURE).with_structured_output(Place)
    seen["structured"]["azure"] = structured.invoke("Where?").model_dump()
    print(json.dumps(seen))


main()

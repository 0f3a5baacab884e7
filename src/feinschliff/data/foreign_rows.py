"""Rows of the Alpaca and ShareGPT formats → Example.

Sources: the data README of hiyouga/LLaMA-Factory, which both are mostly seen with.
"""
import json

from feinschliff.core.chat import Example, FunctionCall, Message, ToolCall
from feinschliff.data.chat_rows import tools_of
from feinschliff.data.problems import Problems, did_you_mean
from feinschliff.data.rows import Fields, Row, parse_json

SPEAKERS = ("human", "gpt", "function_call", "observation", "system")
ALIASES = {"user": "human", "assistant": "gpt", "chatgpt": "gpt", "bing": "gpt", "bard": "gpt", "tool": "observation"}


def alpaca_example(row: Row, problems: Problems) -> Example | None:
    """{instruction, input?, output, system?, history?}: instruction and input make one user message, a line break between."""
    texts: dict[str, str] = {}
    for key in ("instruction", "input", "output", "system"):
        value = row.fields.get(key)
        if isinstance(value, str):
            texts[key] = value
        elif value is not None:
            problems.error(row.line, "bad_content", f'"{key}" is not a text.', "Write it as a JSON string.")
            return None
        elif key in ("instruction", "output"):
            hint = did_you_mean(key, tuple(row.fields))
            problems.error(row.line, "missing_key", f'The record has no "{key}".', hint)
            return None
    history = _history(row, problems)
    if history is None:
        return None
    start = [Message(role="system", content=texts["system"])] if texts.get("system") else []
    question = "\n".join(t for t in (texts["instruction"], texts.get("input", "")) if t)
    end = [Message(role="user", content=question), Message(role="assistant", content=texts["output"])]
    used = ("instruction", "input", "output", "system", "history")
    meta = {k: v for k, v in row.fields.items() if k not in used}
    return Example(messages=(*start, *history, *end), meta=meta, line=row.line)


def _history(row: Row, problems: Problems) -> list[Message] | None:
    turns = row.fields.get("history")
    if not turns:
        return []
    messages: list[Message] = []
    for turn in turns if isinstance(turns, list) else [turns]:
        if not isinstance(turn, list) or len(turn) != 2 or not all(isinstance(t, str) for t in turn):
            problems.error(
                row.line, "bad_messages", '"history" is not a list of [question, answer] pairs.', "Correct or remove it."
            )
            return None
        messages += [Message(role="user", content=turn[0]), Message(role="assistant", content=turn[1])]
    return messages


def sharegpt_example(row: Row, problems: Problems) -> Example | None:
    """{conversations: [{from, value}], system?, tools?}. `tools` may be JSON text, `function_call` values are."""
    turns = row.fields.get("conversations")
    if not isinstance(turns, list) or not turns:
        hint = did_you_mean("conversations", tuple(row.fields))
        problems.error(row.line, "missing_key", 'The record has no "conversations" list.', hint)
        return None
    before = len(problems)
    messages: list[Message] = []
    system = row.fields.get("system")
    if isinstance(system, str) and system:
        messages.append(Message(role="system", content=system))
    pending: list[str] = []  # ids of calls not yet answered
    for i, turn in enumerate(turns, start=1):
        message = _turn(row.line, i, turn, pending, problems)
        if message is not None:
            messages.append(message)
    tools = _tools(row, problems)
    if len(problems) > before:
        return None
    meta = {k: v for k, v in row.fields.items() if k not in ("conversations", "system", "tools")}
    return Example(messages=tuple(messages), tools=tools, meta=meta, line=row.line)


def _turn(line: int, i: int, turn: object, pending: list[str], problems: Problems) -> Message | None:
    speaker = (turn.get("from") or turn.get("role")) if isinstance(turn, dict) else None
    value = turn.get("value", turn.get("content")) if isinstance(turn, dict) else None
    if not isinstance(speaker, str) or not isinstance(value, str):
        problems.error(line, "bad_message", f'Turn {i} is not {{"from": …, "value": text}}.', "Correct it.")
        return None
    kind = ALIASES.get(speaker, speaker)
    if kind == "function_call":
        return _calls(line, i, value, pending, problems)
    if kind == "observation":
        return Message(role="tool", content=value, tool_call_id=pending.pop(0) if pending else None)
    if kind == "human":
        return Message(role="user", content=value)
    if kind == "gpt":
        return Message(role="assistant", content=value)
    if kind == "system":
        return Message(role="system", content=value)
    problems.error(line, "bad_role", f"Turn {i} is from {speaker!r}.", did_you_mean(speaker, SPEAKERS))
    return None


def _calls(line: int, i: int, value: str, pending: list[str], problems: Problems) -> Message | None:
    try:
        parsed = parse_json(value)
    except ValueError as error:
        problems.error(line, "bad_arguments", f"Turn {i}: the function call is not JSON: {error}.", "Write JSON text.")
        return None
    calls: list[ToolCall] = []
    for raw in parsed if isinstance(parsed, list) else [parsed]:
        if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
            problems.error(line, "bad_tool_call", f"Turn {i} calls a function without a name.", 'Write {"name": …}.')
            return None
        arguments = raw.get("arguments", raw.get("parameters", {}))
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        calls.append(ToolCall(id=f"call_{i}_{len(calls)}", function=FunctionCall(name=str(raw["name"]), arguments=text)))
    pending[:] = [call.id for call in calls]
    return Message(role="assistant", tool_calls=tuple(calls))


def _tools(row: Row, problems: Problems) -> tuple[dict[str, object], ...] | None:
    raw = row.fields.get("tools")
    if isinstance(raw, str) and raw.strip():
        try:
            raw = parse_json(raw)
        except ValueError as error:
            problems.error(row.line, "bad_tools", f'"tools" is not JSON text: {error}.', "Write a JSON list.")
            return None
    if not raw or (isinstance(raw, str) and not raw.strip()):
        return None
    listed = raw if isinstance(raw, list) else [raw]
    wrapped: list[object] = [
        t if not isinstance(t, dict) or "function" in t else {"type": "function", "function": t} for t in listed
    ]
    fields: Fields = {"tools": wrapped}
    return tools_of(row.line, fields, problems)

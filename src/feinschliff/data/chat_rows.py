"""One row of OpenAI's chat (or prompt/completion) training format → Example, with every problem it has."""
from collections.abc import Sequence
from typing import Literal, get_args

from feinschliff.core.chat import Conversation, Example, FunctionCall, Message, Role, ToolCall
from feinschliff.data.problems import Problems, did_you_mean, nearest
from feinschliff.data.rows import Fields, Row, parse_json

ROLES: tuple[Role, ...] = get_args(Role)
LINE_KEYS = ("messages", "tools", "parallel_tool_calls", "functions")
MESSAGE_KEYS = ("role", "content", "name", "tool_calls", "tool_call_id", "weight", "function_call")
EMPTY_IN_REPLIES = ("refusal", "audio", "annotations", "reasoning_content")  # the API sends them as null; carry nothing
ROLE_ALIASES: dict[str, Role] = {
    "human": "user", "question": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "ai": "assistant",
    "observation": "tool",
}


def chat_example(row: Row, problems: Problems) -> Example | None:
    """None where the row has an error; then `problems` has grown."""
    before = len(problems)
    raw = row.fields.get("messages")
    if not isinstance(raw, list) or not raw:
        _no_messages(row, problems)
        return None
    messages = _messages(row.line, raw, problems)
    tools = tools_of(row.line, row.fields, problems)
    meta = _meta(row, problems)
    if messages is None or any(f.level == "error" for f in problems.found[before:]):
        return None
    return Example(messages=messages, tools=tools, meta=meta, line=row.line)


def completion_example(row: Row, problems: Problems) -> Example | None:
    """{"prompt", "completion"}: the prompt is the user's message."""
    texts: list[str] = []
    for key in ("prompt", "completion"):
        value = row.fields.get(key)
        if isinstance(value, str):
            texts.append(value)
        elif value is None:
            hint = did_you_mean(key, tuple(row.fields))
            problems.error(row.line, "missing_key", f'The line has no "{key}".', hint)
        else:
            problems.error(row.line, "bad_content", f'"{key}" is not a text.', "Write it as a JSON string.")
    if len(texts) < 2:
        return None
    messages = (Message(role="user", content=texts[0]), Message(role="assistant", content=texts[1]))
    meta = {k: v for k, v in row.fields.items() if k not in ("prompt", "completion")}
    return Example(messages=messages, meta=meta, line=row.line)


def _no_messages(row: Row, problems: Problems) -> None:
    if "messages" in row.fields:
        problems.error(row.line, "bad_messages", '"messages" is not a list with at least one message.', "Write a list.")
        return
    guess = nearest("messages", row.fields)
    hint = f'Rename "{guess}" to "messages".' if guess else f"The line has: {', '.join(row.fields) or 'nothing'}."
    problems.error(row.line, "missing_key", 'The line has no "messages".', hint)


def _meta(row: Row, problems: Problems) -> Fields:
    """Other fields are kept as metadata, unless one is probably a misspelt key."""
    meta: Fields = {}
    for key, value in row.fields.items():
        if key == "meta" and isinstance(value, dict):  # written by `to_jsonl`
            meta |= value
        elif key == "parallel_tool_calls" or key not in LINE_KEYS:
            guess = nearest(key, (k for k in LINE_KEYS if k not in row.fields)) if key not in LINE_KEYS else None
            if guess and len(guess) - len(key) in (-2, -1, 0, 1, 2):
                problems.error(row.line, "unknown_key", f'Unknown key "{key}".', f'Did you mean "{guess}"?')
            meta[key] = value
    return meta


def _messages(line: int, raw: Sequence[object], problems: Problems) -> Conversation | None:
    messages: list[Message] = []
    pending: list[str] = []  # ids of calls whose answer is still to come, for the deprecated `function` role
    for i, item in enumerate(raw, start=1):
        place = f"Message {i}"
        if not isinstance(item, dict):
            problems.error(line, "bad_message", f"{place} is not a JSON object.", 'Write {"role": …, "content": …}.')
            continue
        message = _message(line, place, item, pending, problems)
        if message is not None:
            messages.append(message)
            pending += [call.id for call in message.tool_calls or ()]
    return tuple(messages) if len(messages) == len(raw) else None


def _message(line: int, place: str, raw: Fields, pending: list[str], problems: Problems) -> Message | None:
    before = len(problems)
    _check_keys(line, place, raw, problems)
    role = _role(line, place, raw, problems)
    calls = _tool_calls(line, place, raw, len(pending), problems)
    content = _content(line, place, raw, optional=role == "assistant", problems=problems)
    weight = _weight(line, place, raw, role, problems)
    call_id = _text(line, place, raw, "tool_call_id", problems)
    if raw.get("role") == "function" and call_id is None:
        call_id = pending[-1] if pending else None
    name = _text(line, place, raw, "name", problems)
    if role is None or len(problems) > before:
        return None
    return Message(role=role, content=content, name=name, tool_calls=calls, tool_call_id=call_id, weight=weight)


def _check_keys(line: int, place: str, raw: Fields, problems: Problems) -> None:
    for key, value in raw.items():
        if key in MESSAGE_KEYS or (key in EMPTY_IN_REPLIES and not value):
            continue
        problems.error(line, "unknown_key", f'{place} has an unknown key "{key}".', did_you_mean(key, MESSAGE_KEYS))


def _role(line: int, place: str, raw: Fields, problems: Problems) -> Role | None:
    given = raw.get("role")
    if given == "function":
        return "tool"
    for role in ROLES:
        if given == role:
            return role
    if given is None:
        problems.error(line, "bad_role", f'{place} has no "role".', f"Give it one of {', '.join(ROLES)}.")
        return None
    word = str(given)
    guess = ROLE_ALIASES.get(word.casefold()) or nearest(word, ROLES)
    hint = f'Did you mean "{guess}"? ' if guess else ""
    problems.error(line, "bad_role", f"{place} has the role {given!r}.", f"{hint}Known: {', '.join(ROLES)}.")
    return None


def _content(line: int, place: str, raw: Fields, *, optional: bool, problems: Problems) -> str | None:
    content = raw.get("content")
    if isinstance(content, str):
        return content
    if content is None:
        if not optional:
            problems.error(line, "missing_content", f'{place} has no "content".', "Only an assistant's may be left out.")
        return None
    if isinstance(content, list):
        return _joined_parts(line, place, content, problems)
    problems.error(line, "bad_content", f'The "content" of {place.lower()} is not a text.', "Write it as a JSON string.")
    return None


def _joined_parts(line: int, place: str, parts: Sequence[object], problems: Problems) -> str | None:
    texts: list[str] = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) else None
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(text, str):
            texts.append(text)
            continue
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        problems.error(
            line, "unsupported_content", f"{place} has a content part of type {kind!r}.", "Only text parts can be trained."
        )
    return "".join(texts)


def _weight(
    line: int, place: str, raw: Fields, role: Role | None, problems: Problems
) -> Literal[0, 1] | None:
    weight = raw.get("weight")
    if weight is None:
        return None
    if role != "assistant" and role is not None:
        problems.error(
            line, "weight_on_non_assistant", f'{place} ({role}) has a "weight".', "Only assistant messages are trained."
        )
    elif isinstance(weight, bool) or weight not in (0, 1):
        problems.error(line, "bad_weight", f"{place} has the weight {weight!r}.", "Use 1 (train) or 0 (leave out).")
    return 1 if weight == 1 else 0


def _text(line: int, place: str, raw: Fields, key: str, problems: Problems) -> str | None:
    value = raw.get(key)
    if value is None or isinstance(value, str):
        return value
    problems.error(line, "bad_message", f'The "{key}" of {place.lower()} is not a text.', "Write it as a JSON string.")
    return None


def _tool_calls(
    line: int, place: str, raw: Fields, n_before: int, problems: Problems
) -> tuple[ToolCall, ...] | None:
    calls = raw.get("tool_calls")
    if raw.get("function_call") is not None:  # deprecated, one call without an id
        calls = [{"id": f"call_{n_before}", "function": raw["function_call"]}]
    if calls is None:
        return None
    if raw.get("role") != "assistant":
        problems.error(line, "bad_tool_call", f"{place} is not the assistant's but calls tools.", "Only assistants call.")
    if not isinstance(calls, list) or not calls:
        problems.error(line, "bad_tool_call", f'The "tool_calls" of {place.lower()} is not a list of calls.', "Leave it out.")
        return None
    parsed = [_tool_call(line, place, call, problems) for call in calls]
    return tuple(call for call in parsed if call is not None)


def _tool_call(line: int, place: str, raw: object, problems: Problems) -> ToolCall | None:
    function = raw.get("function") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        problems.error(
            line, "bad_tool_call", f"{place} has a tool call without a function name.",
            'Write {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}.',
        )
        return None
    arguments = function.get("arguments")
    if not isinstance(arguments, str) or not _is_json(arguments):
        what = "is not a JSON text" if isinstance(arguments, str) else "is not a text"
        problems.error(
            line, "bad_arguments", f"{place}: the arguments of {function['name']!r}: it {what}.",
            'Arguments are JSON in a string: "{\\"city\\": \\"Graz\\"}".',
        )
        return None
    call_id = raw.get("id")
    return ToolCall(
        id=call_id if isinstance(call_id, str) else "",
        function=FunctionCall(name=str(function["name"]), arguments=arguments),
    )


def _is_json(text: str) -> bool:
    try:
        parse_json(text)
    except ValueError:
        return False
    return True


def tools_of(line: int, fields: Fields, problems: Problems) -> tuple[dict[str, object], ...] | None:
    """`tools`, and the deprecated `functions` in today's form; None where there are none."""
    wrapped: list[object] = []
    for key in ("tools", "functions"):
        listed = fields.get(key)
        if isinstance(listed, list):
            wrapped += listed if key == "tools" else [{"type": "function", "function": f} for f in listed]
        elif listed is not None:
            problems.error(line, "bad_tools", f'"{key}" is not a list.', "Write a list of function definitions.")
    tools: list[dict[str, object]] = []
    for i, tool in enumerate(wrapped, start=1):
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(tool, dict) and isinstance(function, dict) and isinstance(function.get("name"), str):
            tools.append(tool)
            continue
        problems.error(
            line, "bad_tools", f"Tool {i} has no function with a name.",
            'Write {"type": "function", "function": {"name": …, "parameters": …}}.',
        )
    return tuple(tools) or None

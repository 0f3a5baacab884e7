"""A model's chat template: Jinja2 text from its own folder, run in a sandbox with the variables transformers gives it.

Own rendering instead of `transformers.apply_chat_template` because data checks must not load torch (ADR 1);
tests hold it equal to transformers' on real and tiny templates.
"""
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2.ext import Extension
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from typing_extensions import override

from feinschliff.core.chat import Message, Tool
from feinschliff.core.errors import BadData, ModelUnavailable

_PROBE = "feinschliff-system-probe"
ARGUMENTS_FILE = "template_arguments.json"
# Templates of models that think by default (Qwen 3) open the answer with an empty thought instead where they are told not to: it is then
# part of what is asked, in training and in serving, and the model learns the answer alone.
ARGUMENTS: Mapping[str, object] = {"enable_thinking": False}


class _Generation(Extension):
    """`{% generation %}` marks assistant text for masks in some templates; the renderer finds it by itself."""

    tags = {"generation"}  # noqa: RUF012 – jinja2's own declaration style

    @override
    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller: Callable[[], str]) -> str:
        return caller()


def _raise(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _to_json(
    value: object,
    indent: int | None = None,
    ensure_ascii: bool = False,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Not jinja's own tojson: that escapes <, > and & for HTML, which a model would then learn.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)


class ChatTemplate:
    """Messages → the exact text the model was made for. `arguments` are the switches that a template may have."""

    def __init__(self, source: str, *, special_tokens: dict[str, str], arguments: Mapping[str, object] = ARGUMENTS) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        functions: dict[str, Any] = {"raise_exception": _raise, "strftime_now": _now}
        environment.globals.update(functions)
        self._template = environment.from_string(source)
        self._special_tokens = special_tokens
        self.arguments = arguments
        self._system_role = self._accepts_system()

    @classmethod
    def of(cls, folder: Path) -> "ChatTemplate":
        """Read the template of a model folder (`chat_template.jinja`, else tokenizer_config.json), and its switches
        (`template_arguments.json`, where they are not to be as usual).
        """
        config = read_json(folder / "tokenizer_config.json")
        file = folder / "chat_template.jinja"
        source = file.read_text(encoding="utf-8") if file.is_file() else config.get("chat_template")
        if isinstance(source, list):  # several named templates; "default" is the chat one
            source = next((t["template"] for t in source if t.get("name") == "default"), None)
        if not isinstance(source, str):
            raise ModelUnavailable(
                f"{folder} has no chat template.",
                hint="Use an instruction-tuned model, or put its chat_template.jinja into the folder.",
            )
        tokens = {key: _token_text(config[key]) for key in config if key.endswith("_token") and config[key]}
        own = read_json(folder / ARGUMENTS_FILE) if (folder / ARGUMENTS_FILE).is_file() else {}
        return cls(source, special_tokens=tokens, arguments={**ARGUMENTS, **own})

    def render(self, messages: Sequence[Message], *, tools: Sequence[Tool] | None, answer_next: bool) -> str:
        """The conversation as text; with `answer_next` it ends where the assistant's answer begins."""
        rows = [_row(m) for m in messages]
        if not self._system_role:
            rows = _fold_system(rows)
        try:
            return self._run(rows, tools, answer_next)
        except (jinja2.exceptions.TemplateError, TypeError) as error:  # TypeError: text + arguments, say, in a template
            raise BadData(
                f"The model's chat template refuses this conversation: {error}",
                hint="Check the order of roles; some templates want user and assistant to alternate.",
            ) from error

    def _run(self, rows: list[dict[str, Any]], tools: Sequence[Tool] | None, answer_next: bool) -> str:
        return self._template.render(
            messages=rows,
            tools=list(tools) if tools else None,
            documents=None,
            add_generation_prompt=answer_next,
            **self._special_tokens,
            **self.arguments,
        )

    def _accepts_system(self) -> bool:
        # A text that no role name or template holds: some templates drop system messages without a word.
        rows = [{"role": "system", "content": _PROBE}, {"role": "user", "content": "u"}]
        try:
            return _PROBE in self._run(rows, None, answer_next=False)
        except jinja2.exceptions.TemplateError:
            return False


def read_json(path: Path) -> dict[str, Any]:
    """One of a model folder's own files. Raises ModelUnavailable where it is missing."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelUnavailable(
            f"{path.parent} is not a model folder: {path.name} is missing.",
            hint="A model folder has config.json, model.safetensors, tokenizer.json and tokenizer_config.json.",
        ) from None


def _token_text(token: str | dict[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])


def _row(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": message.content or "",
    }
    if message.name:
        row["name"] = message.name
    if message.tool_call_id:
        row["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        # Templates apply tojson to the arguments, so they want the object, not its JSON text.
        row["tool_calls"] = [
            {"id": c.id, "type": c.type, "function": {"name": c.function.name, "arguments": _loads(c.function.arguments)}}
            for c in message.tool_calls
        ]
    return row


def _loads(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except json.JSONDecodeError:
        return arguments


def _fold_system(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For templates without a system role (Gemma 1, Mistral 0.1): its text goes in front of the first user turn."""
    if len(rows) < 2 or rows[0]["role"] != "system":
        return rows
    first = {**rows[1], "content": f"{rows[0]['content']}\n\n{rows[1]['content']}"}
    return [first, *rows[2:]]

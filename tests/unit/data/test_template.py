import json

import pytest

from feinschliff.core.chat import FunctionCall, Message, ToolCall, assistant, system, user
from feinschliff.core.errors import BadData, ModelUnavailable
from feinschliff.data.template import ChatTemplate
from tiny import CHATML, DROPS_SYSTEM, NO_SYSTEM, make_tiny_tokenizer

TOOL = {
    "type": "function",
    "function": {"name": "läuft", "description": "a <b> & 'c'", "parameters": {"type": "object", "properties": {}}},
}
CALL = Message(role="assistant", tool_calls=(ToolCall(function=FunctionCall(name="läuft", arguments='{"x": "<é>"}')),))
TURNS = (system("Be <brief> & 'kind'."), user("Wie viele? Ünïcode 🦊"), CALL, Message(role="tool", content="3"), assistant("Drei."))
TOKENS = {"eos_token": "<|im_end|>", "bos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
# Every argument that tojson takes in templates seen in the wild, and the block tags that transformers adds.
UNUSUAL = (
    "{%- for m in messages -%}{% generation %}{{ m | tojson(indent=2) }}{% endgeneration %}"
    "{{ m | tojson(separators=(',', ':'), sort_keys=true, ensure_ascii=true) }}"
    "{% if loop.index > 2 %}{% break %}{% endif %}\n  {% set x = namespace(n=1) %}{{ x.n }}{% endfor %}"
    "{{ 'tools' if tools is not none else 'none' }}{{ bos_token }}{{ add_generation_prompt }}"
)


def as_transformers_takes_them(messages):
    rows = []
    for m in messages:
        row = {"role": m.role, "content": m.content or ""}
        if m.tool_calls:
            row["tool_calls"] = [
                {"id": c.id, "type": c.type, "function": {"name": c.function.name, "arguments": json.loads(c.function.arguments)}}
                for c in m.tool_calls
            ]
        rows.append(row)
    return rows


@pytest.mark.parametrize("answer_next", [True, False])
@pytest.mark.parametrize("tools", [None, [TOOL]])
@pytest.mark.parametrize("source", [CHATML, UNUSUAL])
def test_text_equals_transformers(source, tools, answer_next):
    theirs = make_tiny_tokenizer(template=source).apply_chat_template(
        as_transformers_takes_them(TURNS), tools=tools, add_generation_prompt=answer_next, tokenize=False
    )
    assert ChatTemplate(source, special_tokens=TOKENS).render(TURNS, tools=tools, answer_next=answer_next) == theirs


@pytest.mark.parametrize("source", [NO_SYSTEM, DROPS_SYSTEM])
def test_system_text_goes_into_the_first_user_turn_where_there_is_no_system_role(source):
    template = ChatTemplate(source, special_tokens=TOKENS)
    folded = template.render((system("Be brief."), user("Hi"), assistant("Ho")), tools=None, answer_next=False)
    assert folded == template.render((user("Be brief.\n\nHi"), assistant("Ho")), tools=None, answer_next=False)
    assert "Be brief." in folded


def test_developer_is_system():
    template = ChatTemplate(CHATML, special_tokens=TOKENS)
    developer = (Message(role="developer", content="x"), user("Hi"))
    assert template.render(developer, tools=None, answer_next=True) == template.render(
        (system("x"), user("Hi")), tools=None, answer_next=True
    )


def test_what_the_template_refuses_is_bad_data():
    template = ChatTemplate(NO_SYSTEM, special_tokens=TOKENS)
    with pytest.raises(BadData, match="Roles must alternate"):
        template.render((user("a"), user("b")), tools=None, answer_next=True)


def test_templates_cannot_reach_out_of_the_sandbox():
    template = ChatTemplate("{{ messages.__class__.__mro__ }}{{ 'x' }}", special_tokens={})
    with pytest.raises(BadData, match="unsafe"):
        template.render((user("a"),), tools=None, answer_next=True)


def write(folder, config, jinja=None):
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    if jinja:
        (folder / "chat_template.jinja").write_text(jinja, encoding="utf-8")


def said(folder):
    return ChatTemplate.of(folder).render((user("u"),), tools=None, answer_next=False)


def test_where_a_template_is_found(tmp_path):
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    write(tmp_path, {"chat_template": "{{ bos_token }}C", "bos_token": {"content": "<s>"}, "pad_token": None})
    assert said(tmp_path) == "<s>C"
    write(tmp_path, {"chat_template": named})
    assert said(tmp_path) == "D"
    write(tmp_path, {"chat_template": named}, jinja="J")
    assert said(tmp_path) == "J"


def test_no_template_is_an_error_that_says_so(tmp_path):
    with pytest.raises(ModelUnavailable, match=r"tokenizer_config\.json"):
        ChatTemplate.of(tmp_path)
    write(tmp_path, {})
    with pytest.raises(ModelUnavailable, match="no chat template"):
        ChatTemplate.of(tmp_path)

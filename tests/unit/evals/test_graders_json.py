import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feinschliff.core.chat import Example, FunctionCall, Message, ToolCall, assistant, user
from feinschliff.core.ports import GraderFailure, Reply, Score
from feinschliff.evals.graders.json import JsonFields, JsonSchema, JsonValid, ToolCallMatch


def grade(grader, gold, said):
    return grader(Example(messages=(user("q"), assistant(gold))), Reply(said, 1, 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}', 1),
        ('Here:\n```json\n{"a": 1}\n```', 1),
        ("{'a': 1}", 0),
        ("NaN", 0),
        ('{"a": 1} {"b": 2}', 0),
        ("", 0),
        ("[" * 100_000, 0),
    ],
)
def test_json_valid(text, expected):
    assert grade(JsonValid(), "", text).value == expected


def test_json_schema_in_place_and_in_a_file(tmp_path):
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    (tmp_path / "s.json").write_text(json.dumps(schema), encoding="utf-8")
    from pathlib import Path

    for grader in (JsonSchema(schema=schema), JsonSchema(file=Path("s.json"), base=tmp_path)):
        assert grade(grader, "", '{"age": 3}') == Score(1.0)
        wrong = grade(grader, "", '{"age": "3"}')
        assert wrong.value == 0
        assert "$.age" in wrong.why
        assert grade(grader, "", "no").value == 0


def test_json_schema_refuses_a_broken_schema():
    with pytest.raises(ValueError, match="JSON Schema"):
        JsonSchema(schema={"type": "nonsense"})
    with pytest.raises(ValueError, match="exactly one"):
        JsonSchema()


def test_json_fields_counts_paths_with_values():
    gold = '{"name": "Ann", "tags": ["a", "b"], "age": 3}'
    assert grade(JsonFields(), gold, '{"age": 3.0, "tags": ["b", "a"], "name": "Ann"}').value == 1
    half = grade(JsonFields(), gold, '{"name": "Ann", "tags": ["a"], "age": 4}')
    assert half.value == pytest.approx(2 * 2 / (4 + 3))  # two of four gold fields, two of three said ones
    assert grade(JsonFields(), gold, "no").value == 0
    assert grade(JsonFields(), '{"a": true}', '{"a": 1}').value == 0
    assert grade(JsonFields(), "{}", "{}").value == 1
    assert isinstance(grade(JsonFields(), "not json", "{}"), GraderFailure)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    max_leaves=12,
)


@given(_JSON)
def test_json_fields_is_one_for_the_same_value(value):
    text = json.dumps(value)
    assert grade(JsonFields(extract="none"), text, text).value == 1


def test_tool_call_reads_every_usual_form():
    gold = '{"name": "f", "arguments": {"x": 1, "y": [2]}}'
    forms = [
        '{"name": "f", "arguments": {"y": [2], "x": 1.0}}',
        '[{"function": {"name": "f", "arguments": "{\\"x\\": 1, \\"y\\": [2]}"}}]',
        '{"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1, "y": [2]}}}]}',
        '<tool_call>\n{"name": "f", "arguments": {"x": 1, "y": [2]}}\n</tool_call>',
        '```json\n{"name": "f", "parameters": {"x": 1, "y": [2]}}\n```',
    ]
    assert [grade(ToolCallMatch(), gold, form) for form in forms] == [Score(1.0)] * 5


@pytest.mark.parametrize(
    "said",
    [
        "f(1)",
        '{"name": "g", "arguments": {"x": 1}}',
        '{"name": "f", "arguments": {"x": true}}',
        "[]",
        '{"name": 3}',
        '{"name": "f"}',
    ],
)
def test_tool_call_is_zero_for_another_call(said):
    assert grade(ToolCallMatch(), '{"name": "f", "arguments": {"x": 1}}', said).value == 0


def test_tool_call_gold_from_the_message_in_any_order():
    made = tuple(ToolCall(function=FunctionCall(name=n, arguments='{"x": 1}')) for n in ("f", "g"))
    example = Example(messages=(user("q"), Message(role="assistant", tool_calls=made)))
    said = '[{"name": "g", "arguments": {"x": 1}}, {"name": "f", "arguments": {"x": 1}}]'
    assert ToolCallMatch()(example, Reply(said, 1, 1)) == Score(1.0)
    assert isinstance(grade(ToolCallMatch(), "no call", said), GraderFailure)

"""Each problem has its code, and good data has none."""
from collections.abc import Sequence

import pytest

from feinschliff.core.chat import Example, FunctionCall, Message, Rendered, ToolCall, assistant, system, user
from feinschliff.data.audit import audit
from feinschliff.data.convert import to_jsonl
from feinschliff.data.validate import check, findings_of

CALL = Message(role="assistant", tool_calls=(ToolCall(id="c1", function=FunctionCall(name="f", arguments="{}")),))


def codes(*examples: Example) -> list[str]:
    return [f.code for f in findings_of(examples)]


def example(*messages: Message, line: int = 1) -> Example:
    return Example(messages=messages, line=line)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ((user("a"), assistant("b")), []),
        ((system("s"), user("a"), CALL, Message(role="tool", content="1", tool_call_id="c1"), assistant("b")), []),
        ((user("a"),), ["no_assistant_message"]),
        ((user("a"), assistant("b"), user("c")), ["last_not_assistant"]),
        ((user("a"), user("b"), assistant("c")), ["roles_do_not_alternate"]),
        ((assistant("hi"), user("a"), assistant("b")), ["assistant_first"]),
        ((system("s"), assistant("b")), ["no_user_message", "assistant_first"]),
        ((user("a"), system("s"), assistant("b")), ["late_system_message"]),
        ((user("a"), assistant(" ")), ["empty_answer"]),
        ((user("a"), assistant(" b")), ["answer_whitespace"]),
        ((user("a"), Message(role="assistant", content="b", weight=0)), ["nothing_to_learn"]),
        ((user("a"), Message(role="tool", content="1", tool_call_id="c9"), assistant("b")), ["unmatched_tool_message"]),
        ((user("Gr\ufffd"), assistant("b")), ["replacement_character"]),
        ((user("GrÃ¼ÃŸe â€™"), assistant("b")), ["mojibake"]),
        ((user("Ã, Â and São Paulo, ÂNGELO"), assistant("b")), []),
        ((user("a\x00"), assistant("b")), ["control_character"]),
    ],
)
def test_one_example(messages, expected):
    assert codes(example(*messages)) == expected


def test_between_examples():
    same = [example(user("a"), assistant("b"), line=i) for i in (1, 2)]
    other = example(user("a"), assistant("c"), line=3)
    found = findings_of([*same, other])
    assert [(f.line, f.code) for f in found] == [(2, "duplicate"), (3, "conflicting_answer")]
    assert "line 1" in found[0].message


def test_outlier_and_mixed_system_messages():
    rows = [example(system("s"), user(f"q{i}"), assistant("short"), line=i) for i in range(1, 6)]
    rows.append(example(user("q"), assistant("long " * 5000), line=6))
    assert [(f.line, f.code) for f in findings_of(rows)] == [
        (6, "answer_whitespace"), (6, "answer_length_outlier"), (6, "no_system_message"),
    ]


@pytest.mark.parametrize(("n", "expected"), [(9, ["too_few_examples"]), (10, [])])
def test_ten_examples_are_needed(tmp_path, n, expected):
    path = tmp_path / "a.jsonl"
    path.write_bytes(to_jsonl(example(user(f"q{i}"), assistant("a")) for i in range(n)))
    report = check(path)
    assert [f.code for f in report.findings] == expected
    assert (report.n_examples, report.n_errors) == (n, len(expected))


class ByWords:
    """A renderer whose tokens are words: enough to see what the audit does with tokens."""

    max_tokens = 6

    def __init__(self, *, stops: bool) -> None:
        self.stop_ids = frozenset({0})
        self.stops = stops

    def render(self, example: Example, /) -> tuple[Rendered, ...]:
        prompt = [1] * len(example.question.split())
        answer = [2] * len(example.answer.split()) + [0] * self.stops
        trained = 0.0 if example.messages[-1].weight == 0 else 1.0
        return (Rendered((*prompt, *answer), [0.0] * len(prompt) + [trained] * len(answer)),)

    def token_texts(self, tokens: Sequence[int], /) -> list[str]:
        return ["w" for _ in tokens]


def test_tool_calls_that_the_template_drops_are_errors():
    rows = [example(user("a"), CALL, Message(role="tool", content="1", tool_call_id="c1"), assistant("b"))]
    assert [f.code for f in audit(rows, ByWords(stops=True)).findings] == ["tool_calls_not_rendered"]
    shown = Example(messages=(user("a"), assistant("b")), tools=({"type": "function", "function": {"name": "f"}},))
    assert [f.code for f in audit([shown], ByWords(stops=True)).findings] == ["tools_not_rendered"]


def test_tokens_are_counted_and_long_examples_named():
    rows = [example(user("a b"), assistant("c"), line=1), example(user("a b c d e"), assistant("f"), line=2)]
    found = audit(rows, ByWords(stops=True))
    assert (found.n_tokens, found.n_trained, found.longest, found.longest_line, found.n_too_long) == (11, 4, 7, 2, 1)
    (finding,) = found.findings
    assert (finding.line, finding.code) == (2, "too_long")
    assert "7 tokens; the limit is 6" in finding.message


def test_a_problem_of_the_template_is_one_finding():
    rows = [example(user("a"), assistant("b"), line=i) for i in (1, 2, 3)]
    assert [(f.line, f.code) for f in audit(rows, ByWords(stops=False)).findings] == [(0, "stop_token_not_trained")]
    untrained = example(user("a"), Message(role="assistant", content="b", weight=0), line=4)
    assert [(f.line, f.code) for f in audit([*rows, untrained], ByWords(stops=True)).findings] == [(4, "no_trained_tokens")]

"""What every registered grader promises, whoever wrote it."""

import dataclasses

import pytest

from feinschliff.core.chat import Example, assistant, user
from feinschliff.core.ports import GraderFailure, Reply, Score
from feinschliff.core.study import GraderSpec
from feinschliff.evals.registry import known, make

# Options and a gold answer for the types that need some; a grader registered without an entry is tested with none and "yes".
NEEDS = {
    "regex": ({"pattern": "yes"}, "yes"),
    "json_valid": ({}, '{"a": 1}'),
    "json_schema": ({"schema": {"type": "object"}}, '{"a": 1}'),
    "json_fields": ({}, '{"a": 1}'),
    "tool_call": ({}, '{"name": "f", "arguments": {"x": 1}}'),
    "gql_syntax": ({"timeout_s": 2.0}, "MATCH (a) RETURN a"),
    "execution": ({"engine": "sqlite", "setup": "s.sql"}, "SELECT a FROM t"),
    "python": ({"function": "own.py:same", "binary": True}, "yes"),
    "bleu": ({}, "the answer is yes of course"),
}
REPLIES = [
    "",
    " ",
    "no",
    "yes",
    "\x00\ud7ff\U0001f600",
    "```\n",
    "{" * 1500,
    "x " * 2000,
    "'",
    "-- ;",
    "NaN",
    "[]",
    "null",
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graders")
    (folder / "s.sql").write_text("CREATE TABLE t(a); INSERT INTO t VALUES (1)", encoding="utf-8")
    (folder / "own.py").write_text(
        "def same(e, r):\n    return r == e['messages'][-1]['content']", encoding="utf-8"
    )
    patch = pytest.MonkeyPatch()
    patch.setenv("FEINSCHLIFF_CACHE", str(folder / "cache"))
    yield folder
    patch.undo()


@pytest.fixture(scope="module", params=sorted(known()))
def case(request, base):
    options, gold = NEEDS.get(request.param, ({}, "yes"))
    grader = make(GraderSpec(name="g", type=request.param, options=options), base)
    yield grader, Example(messages=(user("q"), assistant(gold)))
    if hasattr(grader, "close"):
        grader.close()


def test_the_gold_answer_gets_full_marks(case):
    grader, example = case
    assert grader(example, Reply(example.answer, 1, 1)).value == pytest.approx(1.0)


@pytest.mark.parametrize("text", REPLIES)
def test_any_reply_gets_a_score_in_range(case, text):
    grader, example = case
    score = grader(example, Reply(text, 1, 1))
    assert isinstance(score, Score)
    assert 0 <= score.value <= 1
    assert not grader.binary or score.value in (0, 1)


def test_the_same_reply_gets_the_same_score(case):
    grader, example = case
    assert grader(example, Reply("maybe yes", 1, 1)) == grader(example, Reply("maybe yes", 9, 9))


def test_a_grader_is_frozen(case):
    grader, _ = case
    with pytest.raises(dataclasses.FrozenInstanceError):
        grader.binary = None


def test_an_answer_without_gold_text_is_no_crash(case):
    grader, _ = case
    graded = grader(Example(messages=(user("q"), assistant(""))), Reply("yes", 1, 1))
    assert isinstance(graded, Score | GraderFailure)

import re

import pytest

from feinschliff.core.chat import Example, assistant, user
from feinschliff.core.errors import BadStudy
from feinschliff.core.ports import GraderFailure, Reply, Score
from feinschliff.core.study import GraderSpec
from feinschliff.evals.graders.text import Exact
from feinschliff.evals.registry import known, make
from feinschliff.evals.run import grade_all

OWN = """
import math
def right(example, reply):
    return reply == example["messages"][-1]["content"]
def graded(example, reply):
    return {"score": 0.5, "why": "half", "label": "x"}
def breaks(example, reply):
    raise KeyError("gone")
def nonsense(example, reply):
    return math.nan
"""


def spec(type_, **options):
    return GraderSpec(name="mine", type=type_, options=options)


def grade(grader, gold, said):
    return grader(Example(messages=(user("q"), assistant(gold))), Reply(said, 1, 1))


def test_every_type_of_the_documentation_is_there():
    named = "exact normalised regex contains json_valid json_schema json_fields label fuzzy chrf bleu rouge tool_call"
    assert set(known()) >= {*named.split(), "gql_syntax", "execution", "python"}


def test_makes_a_grader_with_its_options(tmp_path):
    assert make(spec("exact", strip=False), tmp_path) == Exact(strip=False)
    labels = make(spec("label", labels=["a", "b"]), tmp_path)
    assert grade(labels, "a", "b").label == "b"
    fuzzy = make(spec("fuzzy", threshold=1), tmp_path)
    assert fuzzy.binary


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (spec("exat"), "grader 'mine': there is no type 'exat'. Did you mean 'exact'?"),
        (
            spec("exact", stripp=True),
            "grader 'mine' (exact): there is no option 'stripp'. Did you mean 'strip'?",
        ),
        (spec("exact", base="/"), "there is no option 'base'"),
        (spec("exact", strip="yes"), "option 'strip'"),
        (spec("exact", strip=1), "option 'strip'"),
        (spec("fuzzy", threshold="0.5"), "option 'threshold'"),
        (spec("regex"), "option 'pattern'"),
        (spec("regex", pattern="("), "not a regular expression"),
        (spec("exact", extract="fences"), "option 'extract'"),
        (spec("execution", engine="oracle", database="x"), "option 'engine'"),
        (spec("execution", engine="sqlite", database="x.db"), "x.db"),
        (spec("json_schema", file="missing.json"), "missing.json"),
        (spec("python", function="missing.py:f"), "missing.py"),
        (spec("python", function="no_colon"), "path/to/file.py:name"),
    ],
)
def test_names_grader_and_option_of_a_mistake(tmp_path, wrong, message):
    with pytest.raises(BadStudy, match=re.escape(message)) as caught:
        make(wrong, tmp_path)
    assert "mine" in caught.value.message
    assert caught.value.hint


def test_a_user_s_function_scores(tmp_path):
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    right = make(spec("python", function="own.py:right", binary=True), tmp_path)
    assert right.binary
    assert grade(right, "a", "a") == Score(1.0)
    assert grade(right, "a", "b") == Score(0.0)
    assert grade(make(spec("python", function="own.py:graded"), tmp_path), "", "") == Score(
        0.5, why="half", label="x"
    )


@pytest.mark.parametrize(
    ("function", "binary", "error"),
    [("breaks", False, "gone"), ("nonsense", False, "nan"), ("graded", True, "binary")],
)
def test_a_broken_function_is_a_recorded_failure(tmp_path, function, binary, error):
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    failed = grade(make(spec("python", function=f"own.py:{function}", binary=binary), tmp_path), "", "")
    assert isinstance(failed, GraderFailure)
    assert error in failed.error


def test_a_user_s_file_that_does_not_import_is_said(tmp_path):
    (tmp_path / "own.py").write_text("import nowhere_to_be_found", encoding="utf-8")
    with pytest.raises(BadStudy, match="nowhere_to_be_found"):
        make(spec("python", function="own.py:f"), tmp_path)


def test_grade_all_goes_on_after_a_grader_that_raises():
    def grader(example, reply):
        return Score(1 / len(reply.text))

    example = Example(messages=(user("q"), assistant("a")))
    done = grade_all(grader, [example] * 3, [Reply(text, 1, 1) for text in ("a", "", "ab")])
    assert done == [Score(1.0), GraderFailure("ZeroDivisionError: division by zero"), Score(0.5)]
    with pytest.raises(ValueError, match="shorter"):
        grade_all(grader, [example], [])

import json
from pathlib import Path

import pytest

from feinschliff.core.chat import Example, assistant, user
from feinschliff.core.ports import Reply, Score
from feinschliff.evals.graders.gql import GqlSyntax, shape

SHARED = Path(__file__).parents[3].parent / "shared" / "data"


@pytest.fixture(scope="module")
def grader():
    one = GqlSyntax()
    yield one
    one.close()


def grade(grader, said):
    return grader(Example(messages=(user("q"), assistant(""))), Reply(said, 1, 1))


@pytest.mark.parametrize(
    "query",
    [
        'MATCH (x0:Person WHERE x0.name = "Ann")-[:KNOWS]->(x1) RETURN COUNT(DISTINCT x1)',
        "```gql\nMATCH (a) RETURN a ORDER BY a.n DESC LIMIT 1\n```",
    ],
)
def test_gql_parses(grader, query):
    assert grade(grader, query) == Score(1.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot answer that.",
        "MATCH (a RETURN a",
        "SELECT * FROM t",
        "MATCH (a) RETURN 'open",
        "(" * 500,
    ],
)
def test_other_text_does_not(grader, text):
    score = grade(grader, text)
    assert score.value == 0
    assert score.why


def test_long_texts_and_slow_parses_score_zero(grader):
    assert "4000 characters" in grade(grader, "MATCH (a) RETURN a " * 1000).why
    slow = GqlSyntax(timeout_s=0.5)
    conjunction = "MATCH (a) WHERE " + " AND ".join(["a.x = 1"] * 200) + " RETURN a"
    assert grade(slow, conjunction).why == "took longer than 0.5 s"
    slow.close()


def test_the_shape_forgets_what_strings_hold_and_nothing_else():
    assert shape('RETURN "Ann (x"') == shape('RETURN "Bob"') != shape("RETURN 'Bob'")
    assert shape("RETURN 'a\\'b'") == "RETURN 'a\\'b'"
    assert shape("RETURN 'open") == "RETURN 'open"
    assert shape("RETURN ''") == "RETURN ''"


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared data sets beside the repository")
def test_real_queries_parse(grader):
    with (SHARED / "zograscope_train.jsonl").open(encoding="utf-8") as lines:
        queries = [json.loads(line)["mr"] for _, line in zip(range(20), lines, strict=False)]
    assert {grade(grader, query) for query in queries} == {Score(1.0)}

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feinschliff.evals.engines.gql import to_cypher
from feinschliff.evals.engines.tokens import is_ordered, joined, tokens

SHARED = Path(__file__).parents[3].parent / "shared" / "data"


@pytest.mark.parametrize(
    ("gql", "cypher"),
    [
        ('MATCH (a:P WHERE a.n = "x") RETURN a', 'MATCH (a:P) WHERE a.n = "x" RETURN a'),
        (
            "MATCH (a WHERE a.n=1)-[k:K WHERE k.s>2]->(b WHERE b.n=3)\nRETURN a",
            "MATCH (a)-[k:K]->(b) WHERE (a.n=1) AND (k.s>2) AND (b.n=3)\nRETURN a",
        ),
        (
            "MATCH (a WHERE a.n=1 OR a.n=2) WHERE a.m=3 OR a.m=4 RETURN a",
            "MATCH (a) WHERE (a.n=1 OR a.n=2) AND (a.m=3 OR a.m=4) RETURN a",
        ),
        (
            "MATCH (a WHERE a.n=1) MATCH (b WHERE b.n=2) RETURN a",
            "MATCH (a) WHERE a.n=1 MATCH (b) WHERE b.n=2 RETURN a",
        ),
        (
            "MATCH (a) OPTIONAL MATCH (a)-->(b WHERE b.n=2), (c) RETURN a",
            "MATCH (a) OPTIONAL MATCH (a)-->(b), (c) WHERE b.n=2 RETURN a",
        ),
        ("match (a where a.n = 'WHERE )')return a", "match (a) WHERE a.n = 'WHERE )' return a"),
        ("MATCH (a WHERE (a.n+1)*2 IN [1,2]) RETURN a", "MATCH (a) WHERE (a.n+1)*2 IN [1,2] RETURN a"),
        ("MATCH (a {m: 1} WHERE a.n=1) RETURN a", "MATCH (a {m: 1}) WHERE a.n=1 RETURN a"),
        ("MATCH (a WHERE a.n=1 // why)\n) RETURN a", "MATCH (a) WHERE a.n=1 RETURN a"),
        ("MATCH (a WHERE a.n=1) // why\nRETURN a", "MATCH (a) WHERE a.n=1 // why\nRETURN a"),
        (
            "MATCH (a WHERE a.n STARTS WITH 'x') WHERE a.m STARTS WITH 'y' RETURN a",
            "MATCH (a) WHERE (a.n STARTS WITH 'x') AND (a.m STARTS WITH 'y') RETURN a",
        ),
        (
            "MATCH (a) WHERE EXISTS { MATCH (a)-->(b WHERE b.n=1) } RETURN a",
            "MATCH (a) WHERE EXISTS { MATCH (a)-->(b) WHERE b.n=1 } RETURN a",
        ),
        (
            "MATCH (a WHERE EXISTS { MATCH (a)-->(b WHERE b.n=1) }) RETURN a",
            "MATCH (a) WHERE EXISTS { MATCH (a)-->(b) WHERE b.n=1 } RETURN a",
        ),
        ("MATCH (a WHERE a.n=1)", "MATCH (a) WHERE a.n=1"),
        ("MATCH (a) FILTER a.n=1 RETURN a", "MATCH (a) WITH * WHERE a.n=1 RETURN a"),
        ("MATCH (a) FILTER WHERE a.n=1 RETURN a", "MATCH (a) WITH * WHERE a.n=1 RETURN a"),
        ("MATCH (a) RETURN a OFFSET 2 LIMIT 1", "MATCH (a) RETURN a SKIP 2 LIMIT 1"),
        ("RETURN 'it''s'", "RETURN 'it\\'s'"),
    ],
)
def test_maps_gql_to_cypher(gql, cypher):
    assert to_cypher(gql) == cypher
    assert to_cypher(cypher) == cypher


@pytest.mark.parametrize(
    "query",
    [
        "MATCH (a:P) WHERE a.n = 1 RETURN a ORDER BY a.n SKIP 1",
        "MATCH (where:P) RETURN where.n, a.match, a.offset, a.filter",
        "RETURN [x IN [1,2] WHERE x > 1]",
        "MATCH (a {l: [x IN [1] WHERE x > 0]}) RETURN a",
        "MATCH ((a)-[k]->(b) WHERE a.n=1){2} RETURN a",
        "MATCH (a WHERE a.n = 1 RETURN a",
        "MATCH (a)]} WHERE",
        "I can't do that (sorry WHERE it hurts).",
        "",
    ],
)
def test_leaves_alone_what_has_no_inline_where(query):
    assert to_cypher(query) == query


_NAMES = st.sampled_from(["a", "b", "x0"])
_CONDITION = st.sampled_from(
    ['x.n = "q) WHERE ("', "x.n = 1 OR x.m = 2", "x.s STARTS WITH 'a'", "(x.n) > [1][0]"]
)


@st.composite
def _query(draw, inline):
    def where():
        return f" WHERE {draw(_CONDITION)}" if inline and draw(st.booleans()) else ""

    clauses = []
    for _ in range(draw(st.integers(1, 3))):
        edge = f"-[:K{where()}]->({draw(_NAMES)}{where()})" if draw(st.booleans()) else ""
        own = f" WHERE {draw(_CONDITION)}" if draw(st.booleans()) else ""
        clauses.append(
            f"{draw(st.sampled_from(['MATCH', 'OPTIONAL MATCH']))} ({draw(_NAMES)}:P{where()}){edge}{own}"
        )
    return "\n".join([*clauses, "RETURN x0 ORDER BY x0.n"])


@given(_query(inline=True))
def test_mapping_twice_is_mapping_once(query):
    assert to_cypher(to_cypher(query)) == to_cypher(query)


@given(_query(inline=False))
def test_queries_without_inline_where_come_back_as_they_are(query):
    assert to_cypher(query) == query


@given(
    st.lists(
        st.sampled_from(
            [
                "MATCH",
                "WHERE",
                "(",
                ")",
                "[",
                "]",
                "{",
                "}",
                "'",
                '"',
                "\\",
                ";",
                "FILTER",
                "OFFSET",
                "1",
                "x",
                ",",
                "//",
                "\n",
                "RETURN",
            ]
        )
    )
)
def test_any_text_is_lexed_without_loss_and_mapped_without_error(parts):
    text = " ".join(parts)
    assert joined(tokens(text)) == text
    assert joined(tokens(text, sql=True)) == text
    to_cypher(text)


@pytest.mark.parametrize(
    ("query", "sql", "expected"),
    [
        ("MATCH (a) RETURN a ORDER BY a.n", False, True),
        ("MATCH (a) RETURN 'ORDER BY'", False, False),
        ("SELECT rank() OVER (ORDER BY x) FROM t", True, False),
        ("SELECT x FROM t -- ORDER BY x", True, False),
        ("SELECT x FROM t order\nby x", True, True),
    ],
)
def test_sees_an_order_of_the_result(query, sql, expected):
    assert is_ordered(query, sql=sql) is expected


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared data sets beside the repository")
def test_every_zograscope_query_keeps_its_parts():
    with (SHARED / "zograscope_train.jsonl").open(encoding="utf-8") as lines:
        queries = {json.loads(line)["mr"] for line in lines}
    for query in queries:
        mapped = to_cypher(query)
        assert sorted(t.text for t in tokens(query) if t.kind == "string") == sorted(
            t.text for t in tokens(mapped) if t.kind == "string"
        )
        assert mapped.count("WHERE") == mapped.count(" WHERE ") <= query.count("MATCH")

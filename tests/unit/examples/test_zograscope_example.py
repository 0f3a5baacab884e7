"""The ZOGRASCOPE preparation on the published files: a complete graph on which the gold queries return rows."""
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "zograscope"
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module", autouse=True)
def _modules() -> Iterator[None]:
    sys.path.insert(0, str(EXAMPLE))
    yield
    sys.path.remove(str(EXAMPLE))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (SHARED / "zograscope_train.jsonl").is_file():
        pytest.skip(f"the published files are not in {SHARED}")
    out = tmp_path_factory.mktemp("zograscope") / "data"
    (out.with_name("data.partial") / "csv").mkdir(parents=True)  # as a killed run leaves it
    done = _prepare("--data", str(SHARED), "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "61,521 nodes, 105,840 relationships" in done.stdout
    return out


def _prepare(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(EXAMPLE / "prepare.py"), *arguments], capture_output=True, text=True, check=False)


def test_gold_queries_return_the_published_number_of_rows(prepared: Path):
    ladybug = pytest.importorskip("ladybug", reason="needs feinschliff[graph]")
    gql = pytest.importorskip("feinschliff.evals.engines.gql")
    with ladybug.Database(":memory:") as database, ladybug.Connection(database) as connection:
        connection.execute(f"CALL file_search_path='{prepared}'")
        for statement in (prepared / "load.cypher").read_text("utf-8").split(";\n"):
            if statement.strip():
                connection.execute(statement)
        rows = [json.loads(line) for line in (prepared / "test.jsonl").read_text("utf-8").splitlines()]
        counts = [(connection.execute(gql.to_cypher(r["mr"])).get_num_tuples(), int(r["return_count"])) for r in rows]
    assert len(counts) == 384
    assert all(got > 0 for got, _ in counts)
    # a path may use a relationship twice in ladybug, not in Neo4j, where the published numbers come from
    assert sum(got == published for got, published in counts) >= 0.98 * len(counts)


def test_preparing_again_writes_the_same_bytes(prepared: Path):
    before = {p.relative_to(prepared): p.read_bytes() for p in prepared.rglob("*") if p.is_file()}
    assert _prepare("--data", str(SHARED), "--out", str(prepared)).returncode == 0
    assert {p.relative_to(prepared): p.read_bytes() for p in prepared.rglob("*") if p.is_file()} == before
    assert [p.name for p in prepared.parent.iterdir()] == ["data"]


def test_documents_describe_every_class(prepared: Path):
    documents = {p.stem: p.read_text("utf-8") for p in (prepared / "schema").glob("*.md")}
    classes = json.loads((SHARED / "zograscope_graph_schema.json").read_text("utf-8"))["classes"]
    assert set(documents) == {*classes, "conventions"}
    assert "`(Person)-[:KNOWS_SN]-(Person)`" in documents["Person"]
    assert "- `nhs_no`: national health service number" in documents["Person"]


def test_missing_files_are_named_and_nothing_is_written(tmp_path: Path):
    done = _prepare("--data", str(tmp_path), "--out", str(tmp_path / "data"))
    assert done.returncode == 2
    assert "pole-data-importer.zip" in done.stderr
    assert "--data" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_zip_without_a_model_is_refused(tmp_path: Path):
    from pole_graph import ExportFormatError, read_graph

    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("nodes.csv", ":ID\n1\n")
    with zipfile.ZipFile(tmp_path / "other.zip") as archive, pytest.raises(ExportFormatError, match="neo4j_importer_model"):
        read_graph(archive)

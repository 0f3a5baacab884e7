"""Prepares the ZOGRASCOPE study: a crime graph, 3,289 questions with ISO GQL answers, and the schema as documents.

python examples/zograscope/prepare.py [--data DIR] [--out DIR]

Reads the published files (see README.md for the source) from DIR and writes, next to the study file:

    data/train.jsonl, data/test.jsonl   questions (`nl`) and gold queries (`mr`), as they are
    data/load.cypher, data/csv/*.csv    the graph in the form that ladybug loads; paths relative to load.cypher
    data/schema/*.md                    one document per class and one of conventions: the retrieval corpus

The folder is built beside its place and renamed when it is complete, so a killed run leaves nothing half-built.
"""
import argparse
import shutil
import sys
import time
import zipfile
from pathlib import Path

from pole_documents import schema_documents
from pole_graph import ExportFormatError, read_graph, write_graph

HERE = Path(__file__).resolve().parent
SHARED_DATA = HERE.parents[2] / "shared" / "data"  # beside the repository
SOURCES = {
    "train": "zograscope_train.jsonl",
    "test": "zograscope_test_iid_dev.jsonl",
    "schema": "zograscope_graph_schema.json",
    "graph": "pole-data-importer.zip",
}


def prepare(data: Path, out: Path) -> tuple[int, int]:
    """Writes the study's folder `out` and returns how many nodes and relationships the graph has."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed
    (partial / "csv").mkdir(parents=True)
    (partial / "schema").mkdir()
    with zipfile.ZipFile(data / SOURCES["graph"]) as archive:
        graph = read_graph(archive)
    write_graph(graph, partial)
    for name, text in schema_documents(graph, (data / SOURCES["schema"]).read_text("utf-8")).items():
        (partial / "schema" / name).write_text(text, "utf-8")
    for part in ("train", "test"):
        shutil.copyfile(data / SOURCES[part], partial / f"{part}.jsonl")
    _put_in_place(partial, out)
    return sum(len(t.rows) for t in graph.nodes), sum(len(t.rows) for t in graph.relationships)


def _put_in_place(partial: Path, out: Path) -> None:
    old = out.with_name(out.name + ".old.partial")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Prepare the ZOGRASCOPE study.")
    parser.add_argument("--data", type=Path, default=SHARED_DATA, help="folder with the published files")
    parser.add_argument("--out", type=Path, default=HERE / "data")
    options = parser.parse_args(arguments)
    missing = [name for name in SOURCES.values() if not (options.data / name).is_file()]
    if missing:
        print(f"{options.data} has no {', '.join(missing)}", file=sys.stderr)
        print("hint: give the folder that holds the published files with --data", file=sys.stderr)
        return 2
    start = time.perf_counter()
    print("zograscope: reading the graph and writing tables …", flush=True)
    try:
        n_nodes, n_relationships = prepare(options.data, options.out)
    except (ExportFormatError, zipfile.BadZipFile, OSError) as error:
        print(f"zograscope: {error}", file=sys.stderr)
        return 1
    print(
        f"zograscope: {n_nodes:,} nodes, {n_relationships:,} relationships → {options.out}"
        f" ({time.perf_counter() - start:.1f} s)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

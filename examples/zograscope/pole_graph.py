"""The POLE graph (persons, objects, locations, events) from its Neo4j Data Importer export to ladybug's form.

The export is a zip of CSV files and `neo4j_importer_model.json`, which maps columns to labels and properties.
"""
import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

MODEL = "neo4j_importer_model.json"
LABELS = {"AREA": "Area"}  # the queries write `Area`; the export's model shouts it
ENDS = (":START_ID", ":END_ID")
RELATIONSHIP_FILE = re.compile(r"\.relationships\.(\w+)\.csv$")
BETWEEN_PERSONS = ("Person", "Person")
# Said in full: ladybug guesses the quoting from the first rows, where there may be none.
CSV_FORM = "HEADER=true, AUTO_DETECT=false, DELIM=',', QUOTE='\"', ESCAPE='\"'"
COORDINATES = frozenset({"latitude", "longitude"})


class ExportFormatError(Exception):
    """The zip is not a Data Importer export of the kind we know."""


@dataclass(frozen=True, slots=True)
class Table:
    """One node label, or one relationship type with the labels it leads from and to."""

    name: str
    columns: tuple[str, ...]  # properties; of nodes the first is the key `id`
    rows: list[tuple[str, ...]]
    ends: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    nodes: tuple[Table, ...]
    relationships: tuple[Table, ...]


def column_type(column: str) -> str:
    """Everything but keys and coordinates stays text, because the gold queries compare with text: `x.year = "2005"`."""
    if column == "id":
        return "INT64"
    return "DOUBLE" if column in COORDINATES else "STRING"


def read_graph(archive: zipfile.ZipFile) -> Graph:
    """Reads the tables the model names. Raises ExportFormatError where model and files do not fit."""
    try:
        model = json.loads(archive.read(MODEL))["dataModel"]
        nodes = tuple(_nodes(archive, model))
        mapped = tuple(_relationships(archive, model))
    except (KeyError, ValueError) as error:
        raise ExportFormatError(f"{MODEL} does not describe the tables in the zip: {error!r}") from error
    keys = {table.name: {row[0] for row in table.rows} for table in nodes}
    return Graph(nodes, tuple(_only_between(t, keys) for t in (*mapped, *_unmapped(archive, mapped))))


def _nodes(archive: zipfile.ZipFile, model: dict[str, Any]) -> Iterator[Table]:
    schema = model["graphSchemaRepresentation"]["graphSchema"]
    labels = {label["$id"]: label for label in schema["nodeLabels"]}
    label_of = {n["$id"]: labels[n["labels"][0]["$ref"][1:]] for n in schema["nodeObjectTypes"]}
    for mapping in model["graphMappingRepresentation"]["nodeMappings"]:
        label = label_of[mapping["node"]["$ref"][1:]]
        names = {p["$id"]: p["token"] for p in label["properties"]}
        fields = [(m["fieldName"], names[m["property"]["$ref"][1:]]) for m in mapping["propertyMappings"]]
        fields.sort(key=lambda field: field[1] != "id")  # the key first, the others as they stand
        rows = [tuple(row[f] for f, _ in fields) for row in _csv(archive, model, mapping)]
        yield Table(_label(label["token"]), tuple(name for _, name in fields), rows)


def _relationships(archive: zipfile.ZipFile, model: dict[str, Any]) -> Iterator[Table]:
    schema = model["graphSchemaRepresentation"]["graphSchema"]
    labels = {label["$id"]: _label(label["token"]) for label in schema["nodeLabels"]}
    nodes = {n["$id"]: labels[n["labels"][0]["$ref"][1:]] for n in schema["nodeObjectTypes"]}
    types = {t["$id"]: t for t in schema["relationshipTypes"]}
    objects = {r["$id"]: r for r in schema["relationshipObjectTypes"]}
    for mapping in model["graphMappingRepresentation"]["relationshipMappings"]:
        described = objects[mapping["relationship"]["$ref"][1:]]
        kind = types[described["type"]["$ref"][1:]]
        names = {p["$id"]: p["token"] for p in kind["properties"]}
        fields = [(m["fieldName"], names[m["property"]["$ref"][1:]]) for m in mapping["propertyMappings"]]
        columns = (*ENDS, *(f for f, _ in fields))
        rows = [tuple(row[c] for c in columns) for row in _csv(archive, model, mapping)]
        between = (nodes[described["from"]["$ref"][1:]], nodes[described["to"]["$ref"][1:]])
        yield Table(kind["token"], tuple(name for _, name in fields), rows, between)


def _unmapped(archive: zipfile.ZipFile, mapped: Sequence[Table]) -> Iterator[Table]:
    """The relationship files that the model forgets (in the published zip: KNOWS_SN, which the questions use)."""
    known = {table.name for table in mapped}
    for name in sorted(archive.namelist()):
        if (found := RELATIONSHIP_FILE.search(name)) and found[1] not in known:
            rows = [tuple(row[end] for end in ENDS) for row in _read_csv(archive, name)]
            yield Table(found[1], (), rows, BETWEEN_PERSONS)


def _only_between(table: Table, keys: dict[str, set[str]]) -> Table:
    """Keeps the rows whose ends have the table's labels: one file holds INVOLVED_IN of vehicles and of objects."""
    assert table.ends
    sources, targets = keys[table.ends[0]], keys[table.ends[1]]
    return replace(table, rows=[row for row in table.rows if row[0] in sources and row[1] in targets])


def _label(token: str) -> str:
    return LABELS.get(token, token)


def _csv(archive: zipfile.ZipFile, model: dict[str, Any], mapping: dict[str, Any]) -> Iterator[dict[str, str]]:
    files = model["graphMappingRepresentation"]["dataSourceSchema"]["tableSchemas"]
    name = next(f["name"] for f in files if f["$id"] == mapping["tableSchema"]["$ref"][1:])
    yield from _read_csv(archive, name)


def _read_csv(archive: zipfile.ZipFile, name: str) -> Iterator[dict[str, str]]:
    with archive.open(name) as raw:
        yield from csv.DictReader(io.TextIOWrapper(raw, "utf-8", newline=""))


def write_graph(graph: Graph, folder: Path) -> None:
    """Writes `csv/*.csv` and `load.cypher`; the COPY paths are relative to `folder`."""
    create: list[str] = []
    copy: list[str] = []
    for table in graph.nodes:
        columns = ", ".join(f"{c} {column_type(c)}" for c in table.columns)
        create.append(f"CREATE NODE TABLE {table.name}({columns}, PRIMARY KEY(id));")
        copy.append(f'COPY {table.name} FROM "csv/{table.name}.csv" ({CSV_FORM});')
        _write_csv(folder / "csv" / f"{table.name}.csv", table.columns, table.rows)
    for name in dict.fromkeys(table.name for table in graph.relationships):
        kinds = [table for table in graph.relationships if table.name == name]
        ends = ", ".join(f"FROM {t.ends[0]} TO {t.ends[1]}" for t in kinds if t.ends)
        properties = "".join(f", {c} {column_type(c)}" for c in kinds[0].columns)
        create.append(f"CREATE REL TABLE {name}({ends}{properties});")
        for table in kinds:
            assert table.ends
            start, end = table.ends
            file = f"{name}_{start}_{end}.csv"
            copy.append(f'COPY {name} FROM "csv/{file}" ({CSV_FORM}, FROM="{start}", TO="{end}");')
            _write_csv(folder / "csv" / file, ("from", "to", *table.columns), table.rows)
    (folder / "load.cypher").write_text("\n".join([*create, *copy]) + "\n", "utf-8")


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        # one line a row: ladybug reads the file in parallel and cannot have line ends inside a value
        writer.writerows([" ".join(value.split()) for value in row] for row in rows)

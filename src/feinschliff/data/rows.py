"""Bytes → rows: which container a file is (JSONL, JSON, CSV, TSV, Parquet), and its records with their lines."""
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from feinschliff.core.errors import MissingExtra
from feinschliff.core.findings import Finding
from feinschliff.data.csv_rows import csv_rows
from feinschliff.data.files import read_bytes
from feinschliff.data.problems import Problems

Container = Literal["jsonl", "json", "csv", "parquet"]
Fields = dict[str, object]

BOM = b"\xef\xbb\xbf"
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
BINARY = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip archive", b"\x28\xb5\x2f\xfd": "a zstd archive"}


@dataclass(frozen=True, slots=True)
class Row:
    """One record. `line` is the 1-based line (JSONL, CSV) or record number (JSON, Parquet)."""

    line: int
    fields: Fields


@dataclass(frozen=True, slots=True)
class Rows:
    container: Container
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]

    @property
    def field_names(self) -> tuple[str, ...]:
        """Every field that occurs, in the order of first occurrence."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.fields))


def read_rows(path: Path, expected: frozenset[str] = frozenset()) -> Rows:
    """All records that can be read, and a finding for each that cannot. `expected` names tell a CSV header from data.

    Raises BadData (no such file, a folder), MissingExtra (Parquet without pyarrow).
    """
    data = read_bytes(path)
    problems = Problems()
    suffix = path.suffix.lower()
    if data.startswith(b"PAR1") or suffix == ".parquet":
        return _parquet(data, problems)
    container: Container = "csv" if suffix in {".csv", ".tsv"} else "json" if suffix == ".json" else "jsonl"
    data = data.removeprefix(BOM)
    if not data.strip():
        problems.error(0, "empty_file", f"{path.name} is empty.", "Write one example a line.")
        return Rows(container, (), tuple(problems.found))
    if not _is_text(data, problems):
        return Rows(container, (), tuple(problems.found))
    if container == "csv":
        text = _text(data, problems)
        records = csv_rows(text, problems, tabs=suffix == ".tsv", expected=expected)
        return Rows("csv", tuple(Row(line, fields) for line, fields in records), tuple(problems.found))
    if container == "json" or data.lstrip()[:1] == b"[":
        rows = _whole_json(data, problems, sure=container == "json" and data.lstrip()[:1] == b"[")
        if rows is not None:
            return Rows("json", rows, tuple(problems.found))
    return Rows("jsonl", tuple(_json_lines(data, problems)), tuple(problems.found))


def _is_text(data: bytes, problems: Problems) -> bool:
    for magic, what in BINARY.items():
        if data.startswith(magic):
            problems.error(0, "not_text", f"The file is {what}, not text.", "Unpack it first.")
            return False
    head = data[:2000]
    if data.startswith(UTF16_BOMS) or head.count(0) > len(head) // 4:
        problems.error(
            1, "wrong_encoding", "The file is UTF-16 (or UTF-32) text; UTF-8 is needed.",
            "Convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW_FILE.",
        )
        return False
    return True


def _wrong_encoding(problems: Problems, line: int, raw: bytes, error: UnicodeDecodeError) -> None:
    byte = raw[error.start]
    meant = bytes([byte]).decode("cp1252", errors="replace")
    problems.error(
        line, "wrong_encoding",
        f"Byte 0x{byte:02x} at position {error.start + 1} of the line is not UTF-8 (as Windows-1252 it is {meant!r}).",
        "Convert the file: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW_FILE.",
    )


def _text(data: bytes, problems: Problems) -> str:
    """UTF-8 text; a finding for each line that is not (its bad bytes become U+FFFD, and its row is dropped later)."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        for line, raw in enumerate(data.split(b"\n"), start=1):
            try:
                raw.decode("utf-8")
            except UnicodeDecodeError as error:
                _wrong_encoding(problems, line, raw, error)
        return data.decode("utf-8", errors="replace")


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def parse_json(text: str) -> object:
    """Strict JSON: no NaN or Infinity, no half a surrogate pair. Raises ValueError saying what and where."""
    try:
        value: object = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half of a surrogate pair (\\ud800 … \\udfff): not a character") from None
    return value


def _json_lines(data: bytes, problems: Problems) -> Iterator[Row]:
    for line, raw in enumerate(data.split(b"\n"), start=1):
        if not raw.strip():
            continue
        try:
            value = parse_json(raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            _wrong_encoding(problems, line, raw, error)
        except ValueError as error:
            problems.error(line, "invalid_json", f"The line is not JSON: {_where(error)}.", _json_hint(raw))
        else:
            yield from _object(line, value, problems)


def _where(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return str(error)


def _json_hint(raw: bytes) -> str:
    if raw.lstrip()[:1] not in (b"{", b"["):
        return "Every line must be one JSON object: {…}."
    if b"'" in raw:
        return "JSON text is in double quotes: \"…\", not '…'."
    return "Every line must be one whole JSON object; write it with a JSON library."


def _object(line: int, value: object, problems: Problems) -> Iterator[Row]:
    if isinstance(value, dict):
        yield Row(line, value)
        return
    start = json.dumps(value, ensure_ascii=False)[:40]
    problems.error(
        line, "not_an_object", f"The record is not a JSON object; it starts with {start}.", "Every record must be {…}."
    )


def _whole_json(data: bytes, problems: Problems, *, sure: bool) -> tuple[Row, ...] | None:
    """The file as one JSON value. None where it is rather JSONL (`sure` excludes that)."""
    before = len(problems)
    text = _text(data, problems)
    if len(problems) > before:
        return ()
    try:
        value = parse_json(text)
    except ValueError as error:
        if not sure:
            return None
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 0
        problems.error(line, "invalid_json", f"The file is not JSON: {_where(error)} of line {line}.", "Correct it there.")
        return ()
    records = value if isinstance(value, list) else [value]
    if not records:
        problems.error(0, "empty_file", "The file is an empty JSON list.", "Write at least one example.")
    return tuple(row for i, record in enumerate(records, start=1) for row in _object(i, record, problems))


def _parquet(data: bytes, problems: Problems) -> Rows:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra("pyarrow", extra="parquet", feature="Reading Parquet files") from None
    try:
        records = pq.read_table(io.BytesIO(data)).to_pylist()
    except (pa.ArrowException, OSError) as error:
        problems.error(0, "not_parquet", f"The file is not readable Parquet: {error}.", "Write it again.")
        return Rows("parquet", (), tuple(problems.found))
    # dates, decimals and bytes become text, so that every row can be written as JSON again
    plain = (json.loads(json.dumps(record, default=str)) for record in records)
    rows = tuple(Row(i, fields) for i, fields in enumerate(plain, start=1))
    if not rows:
        problems.error(0, "empty_file", "The file has no rows.", "Write at least one example.")
    return Rows("parquet", rows, tuple(problems.found))

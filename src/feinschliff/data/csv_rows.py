"""CSV and TSV as they really come: the dialect is worked out from the text, the header is told from data."""
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from feinschliff.data.problems import Problems

SAMPLE_ROWS = 200
NAME = re.compile(r"[^\W\d][\w .\-/()]{0,39}")  # what a column's name looks like, as against a cell of text


@dataclass(frozen=True, slots=True)
class Dialect:
    delimiter: str
    quote: str


def csv_rows(
    text: str, problems: Problems, *, tabs: bool = False, expected: frozenset[str] = frozenset()
) -> Iterator[tuple[int, dict[str, object]]]:
    """Rows with the line each starts at. Without a header the fields are column_1, column_2 … and a warning says so."""
    csv.field_size_limit(2**31 - 1)  # the default stops at 128 KiB, which documents exceed
    dialect = sniff(text, tabs=tabs)
    records = _records(text, dialect, problems)
    first = next(records, None)
    if first is None:
        return
    line, cells = first
    names, is_header = _names(cells, text, dialect, expected)
    if not is_header:
        problems.warning(
            line, "no_header", f"The first line does not look like a header; the fields are called {', '.join(names)}.",
            "Add a header line, or use these names in the mapping.",
        )
        yield from _row(line, cells, names, problems)
    for line, cells in records:
        yield from _row(line, cells, names, problems)


def _row(line: int, cells: list[str], names: list[str], problems: Problems) -> Iterator[tuple[int, dict[str, object]]]:
    if len(cells) != len(names):
        problems.error(
            line, "wrong_number_of_fields", f"The row has {len(cells)} fields; the first one has {len(names)}.",
            "Quote cells that hold the separator or a line break.",
        )
    elif any("�" in cell for cell in cells) and any(f.line == line and f.code == "wrong_encoding" for f in problems.found):
        return  # already reported
    else:
        yield line, dict(zip(names, cells, strict=True))


def _records(text: str, dialect: Dialect, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True
    )
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.error(line, "invalid_csv", f"The row cannot be read: {error}.", "Check its quotes; double those inside.")
            continue
        if cells:
            yield line, cells


def sniff(text: str, *, tabs: bool = False) -> Dialect:
    """The separator and quote under which the first rows agree best on more than one column.

    Written out because csv.Sniffer takes apostrophes in prose for quotes.
    """
    candidates = [Dialect(d, q) for d in ("\t" if tabs else ",;\t|") for q in "\"'"]
    return max(candidates, key=lambda dialect: _fit(text, dialect))


def _fit(text: str, dialect: Dialect) -> tuple[float, float, float]:
    """(share of rows with the usual width, share of cells that this quote really opens, columns): larger is likelier."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=dialect.delimiter, quotechar=dialect.quote)
    widths: Counter[int] = Counter()
    for _, cells in zip(range(SAMPLE_ROWS), reader, strict=False):
        if cells:
            widths[len(cells)] += 1
    if not widths:
        return (0.0, 0.0, 0.0)
    width, n = widths.most_common(1)[0]
    if width == 1:
        return (0.0, float(dialect.quote == '"'), 0.0)
    mark = re.escape(dialect.delimiter)
    quote = dialect.quote
    opened = len(re.findall(rf"(?:^|{mark}){quote}", text[:200_000], re.MULTILINE))
    closed = len(re.findall(rf"{quote}(?:\r?$|{mark})", text[:200_000], re.MULTILINE))
    quoted = min(opened, closed) / n
    return (round(n / widths.total(), 2), quoted if quoted else 0.5 * (quote == '"') / n, float(width))


def _names(cells: list[str], text: str, dialect: Dialect, expected: frozenset[str]) -> tuple[list[str], bool]:
    numbered = [f"column_{i}" for i in range(1, len(cells) + 1)]
    if expected & set(cells):
        return cells, True
    if expected and expected <= set(numbered):
        return numbered, False
    looks_like_names = len(set(cells)) == len(cells) and all(
        NAME.fullmatch(cell.strip()) and len(cell.split()) <= 4 for cell in cells
    )
    return (cells, True) if looks_like_names and not _recurs(cells, text, dialect) else (numbered, False)


def _recurs(cells: list[str], text: str, dialect: Dialect) -> bool:
    """Whether a first-line cell occurs again further down its column: then it is a value, not a name."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=dialect.delimiter, quotechar=dialect.quote)
    next(reader, None)
    return any(
        cell == name
        for _, row in zip(range(SAMPLE_ROWS), reader, strict=False)
        for cell, name in zip(row, cells, strict=False)
    )

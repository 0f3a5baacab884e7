"""Any supported file → examples, and a finding for everything in it that is none."""
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from feinschliff.core.chat import Example
from feinschliff.core.errors import BadData
from feinschliff.core.findings import Finding
from feinschliff.core.study import Format, Mapping
from feinschliff.data.chat_rows import LINE_KEYS, chat_example, completion_example
from feinschliff.data.foreign_rows import alpaca_example, sharegpt_example
from feinschliff.data.mapping import map_rows
from feinschliff.data.problems import Problems, in_order, nearest
from feinschliff.data.rows import Container, Row, Rows, read_rows

SIGNATURES: dict[Format, tuple[str, ...]] = {
    "chat": ("messages",),
    "sharegpt": ("conversations",),
    "completion": ("prompt", "completion"),
    "alpaca": ("instruction", "output"),
}


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What a file holds. `format` is the one that was taken, never "auto"; "" where none fitted (a finding says so).

    `n_records` counts every record met, the unreadable ones too.
    """

    examples: tuple[Example, ...]
    findings: tuple[Finding, ...]
    format: str
    container: Container
    n_records: int

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.level == "error")


def read(path: Path, format: Format = "auto", mapping: Mapping | None = None) -> ReadResult:
    """Reads on after a bad line: each becomes a finding.

    Raises BadData where there is nothing to read (no file, a folder) or the request contradicts itself,
    MissingExtra for Parquet without pyarrow.
    """
    if mapping is not None and format not in ("auto", "mapped"):
        raise BadData(f"A mapping was given, and the format {format!r}, which needs none.", hint="Leave one of them out.")
    if format == "mapped" and mapping is None:
        raise BadData("The format 'mapped' needs a mapping.", hint="Name the fields: --input FIELD --output FIELD.")
    named = (mapping.input, mapping.output) if mapping else ()
    rows = read_rows(path, frozenset(name for name in named if name))
    problems = Problems()
    taken: Format | None = "mapped" if mapping else format if format != "auto" else detect(rows)
    examples: tuple[Example, ...] = ()
    if taken is None:
        _unknown_format(rows, problems)
    elif mapping is not None:
        examples = map_rows(rows, mapping, problems) if rows.rows else ()
    else:
        examples = _convert(rows, taken, problems)
    if taken == "chat":
        _extra_fields(rows, problems)
    bad_lines = {f.line for f in rows.findings if f.level == "error" and f.line} - {r.line for r in rows.rows}
    return ReadResult(
        examples=examples,
        findings=in_order([*rows.findings, *problems.found]),
        format=taken or "",
        container=rows.container,
        n_records=len(rows.rows) + len(bad_lines),
    )


def load(path: Path, format: Format = "auto", mapping: Mapping | None = None) -> tuple[Example, ...]:
    """The examples of a file that has no error. Raises BadData naming the first error otherwise."""
    result = read(path, format, mapping)
    if result.errors:
        first = result.errors[0]
        place = f"{path}, line {first.line}" if first.line else str(path)
        more = f" ({len(result.errors)} errors in all)" if len(result.errors) > 1 else ""
        raise BadData(f"{place}: {first.message}{more}", hint=f"{first.hint} See: feinschliff data check {path}".strip())
    return result.examples


def detect(rows: Rows) -> Format | None:
    """The format whose fields most rows have; None where no row has any format's fields."""
    votes: Counter[Format] = Counter()
    for row in rows.rows:
        for name, keys in SIGNATURES.items():
            if all(key in row.fields for key in keys):
                votes[name] += 1
                break
    if votes:
        return votes.most_common(1)[0][0]
    return "chat" if any(nearest("messages", row.fields) for row in rows.rows) else None


def _convert(rows: Rows, taken: Format, problems: Problems) -> tuple[Example, ...]:
    reader = _reader(taken)
    examples = (reader(row, problems) for row in rows.rows)
    return tuple(example for example in examples if example is not None)


def _reader(taken: Format) -> Callable[[Row, Problems], Example | None]:
    match taken:
        case "chat":
            return chat_example
        case "completion":
            return completion_example
        case "alpaca":
            return alpaca_example
        case "sharegpt":
            return sharegpt_example
        case "auto" | "mapped":
            raise ValueError(f"{taken} is not a row format")
        case _:
            assert_never(taken)


def _unknown_format(rows: Rows, problems: Problems) -> None:
    if not rows.rows:
        return  # why there are no rows is a finding already
    problems.error(
        0, "unknown_format", f"The rows are in no known format; their fields are {', '.join(rows.field_names)}.",
        "Say which field is the question and which the answer: --input FIELD --output FIELD.",
    )


def _extra_fields(rows: Rows, problems: Problems) -> None:
    extra = [name for name in rows.field_names if name not in (*LINE_KEYS, "meta")]
    if extra:
        problems.warning(
            0, "extra_fields", f"Fields beside the chat are kept as metadata: {', '.join(extra)}.",
            "Hosted services refuse such lines; `feinschliff data convert` writes them without.",
        )

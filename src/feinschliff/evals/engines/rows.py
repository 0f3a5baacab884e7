"""Query results as plain values: how an engine's cells are written down, and when two results are the same."""

import datetime as dt
import decimal
import math
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Cell = (
    None | bool | int | float | str | list["Cell"]
)  # JSON, so that it crosses the pipe; lists start with their kind
Row = Sequence[Cell]
Key = str | int | float | None | tuple["Key", ...]

FLOAT_TOLERANCE = 1e-9  # relative; the order of a sum may differ between two plans of the same query


@dataclass(frozen=True, slots=True)
class Rows:
    """A result: its rows in the engine's order. Column names are not part of it."""

    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Refused:
    """The engine ran and said no to this query: bad syntax, unknown table, a write, too many rows, too slow."""

    why: str


def cell(value: object) -> Cell:
    """An engine's value as JSON: nodes and edges by identity and label, dates in ISO form, every kind told apart from text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value
        case decimal.Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case dt.datetime() | dt.date() | dt.time():
            return [type(value).__name__, value.isoformat()]
        case dt.timedelta():
            return ["timedelta", value.total_seconds()]
        case uuid.UUID():
            return ["uuid", str(value)]
        case bytes() | bytearray() | memoryview():
            return ["bytes", bytes(value).hex()]
        case Mapping():
            return _mapping(value)
        case Sequence() | set() | frozenset():
            return ["list", *(cell(item) for item in value)]
        case _:
            return [type(value).__name__, str(value)]


def _mapping(value: Mapping[object, object]) -> Cell:
    identity = value.get("_ID")
    if identity is not None and "_LABEL" in value:  # a ladybug node or edge
        return ["entity", str(value["_LABEL"]), cell(identity)]
    return ["map", *(["list", str(key), cell(value[key])] for key in sorted(value, key=str))]


def same(gold: Sequence[Row], reply: Sequence[Row], *, ordered: bool) -> str:
    """ "" where both are the same result, else in a few words how they differ.

    `ordered`: compared as lists, else as multisets. Numbers are the same within a relative 1e-9, an integer and the
    equal float included.
    """
    if len(gold) != len(reply):
        return f"{len(reply)} rows instead of {len(gold)}"
    if gold and len(gold[0]) != len(reply[0]):
        return f"{len(reply[0])} columns instead of {len(gold[0])}"
    ours, theirs = [_split(row) for row in gold], [_split(row) for row in reply]
    if ordered:
        return "" if all(map(_close, ours, theirs)) else "other rows, or the same in another order"
    if Counter(ours) == Counter(theirs):
        return ""
    return "" if _same_groups(ours, theirs) else "other rows"


_Split = tuple[Key, tuple[float, ...]]  # what must be equal exactly, and the numbers in it


def _split(row: Row) -> _Split:
    numbers: list[float] = []
    return _shape(list(row), numbers), tuple(numbers)


def _shape(value: Cell, numbers: list[float]) -> Key:
    match value:
        case bool():
            return ("bool", str(value))
        case int() | float():
            numbers.append(value)
            return ("number",)
        case list():
            return tuple(_shape(item, numbers) for item in value)
        case _:
            return value


def _close(a: _Split, b: _Split) -> bool:
    return a[0] == b[0] and all(map(_equal_numbers, a[1], b[1]))


def _equal_numbers(a: float, b: float) -> bool:
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return a == b or (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=FLOAT_TOLERANCE)


def _same_groups(ours: Iterable[_Split], theirs: Iterable[_Split]) -> bool:
    """Rows that agree in all but their numbers are sorted by these and compared pairwise; sorting puts close ones side by side."""
    left, right = _grouped(ours), _grouped(theirs)
    if left.keys() != right.keys():
        return False
    return all(len(left[k]) == len(right[k]) and _same_numbers(left[k], right[k]) for k in left)


def _grouped(rows: Iterable[_Split]) -> dict[Key, list[tuple[float, ...]]]:
    groups: defaultdict[Key, list[tuple[float, ...]]] = defaultdict(list)
    for shape, numbers in rows:
        groups[shape].append(numbers)
    return groups


def _same_numbers(left: list[tuple[float, ...]], right: list[tuple[float, ...]]) -> bool:
    if all(all(map(_equal_numbers, a, b)) for a, b in zip(_sorted(left), _sorted(right), strict=True)):
        return True
    # Rounding can swap neighbours in the sort when the first of several floats nearly tie: match them one by one.
    rest = list(right)
    if len(rest) > 1000:  # quadratic; such a tie in a result of this size is not worth seconds
        return False
    for a in left:
        found = next((b for b in rest if all(map(_equal_numbers, a, b))), None)
        if found is None:
            return False
        rest.remove(found)
    return True


def _sorted(rows: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    return sorted(rows, key=lambda row: tuple((math.isnan(x), 0.0 if math.isnan(x) else x) for x in row))

"""Runs gold queries on the graph, to keep only questions that have one right answer."""
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

INLINE = re.compile(r'(\(\w+:\w+) WHERE ((?:"[^"]*"|[^()"])*)\)')
MOST_ROWS = 200
Cell = object


class Graph(Protocol):
    def rows(self, gql: str) -> Sequence[Sequence[Cell]]: ...

    def set_size(self, gql: str) -> int:
        """How many matches the query has before anything is sorted, cut or added up."""
        ...


def without_inline_where(gql: str) -> str:
    """ISO GQL → openCypher for the queries written here: moves conditions inside node patterns behind the MATCH clause."""
    match, result = gql.split("\nRETURN", 1)
    conditions = [f"({found[2]})" for found in INLINE.finditer(match)]
    pattern, _, where = INLINE.sub(r"\1)", match).partition("\nWHERE ")
    conditions += [where] if where else []
    return pattern + ("\nWHERE " + " AND ".join(conditions) if conditions else "") + "\nRETURN" + result


class Ladybug:
    """The graph in memory, loaded from `folder/load.cypher`."""

    def __init__(self, folder: Path) -> None:
        import ladybug

        self._database = ladybug.Database(":memory:", max_num_threads=1)  # queries are too small to share
        self._connection = ladybug.Connection(self._database)
        self._connection.execute(f"CALL file_search_path='{folder.resolve()}'")
        self._sizes: dict[str, int] = {}  # by MATCH clause: many queries ask different things of one set
        for statement in (folder / "load.cypher").read_text("utf-8").split(";\n"):
            if statement.strip():
                self._connection.execute(statement)

    def rows(self, gql: str) -> Sequence[Sequence[Cell]]:
        result = self._connection.execute(without_inline_where(gql))
        assert not isinstance(result, list)  # one statement, one result
        return [list(row) for row in result.get_all()]

    def set_size(self, gql: str) -> int:
        match = gql.split("\nRETURN", 1)[0]
        if match not in self._sizes:
            self._sizes[match] = int(str(self.rows(f"{match}\nRETURN COUNT(*)")[0][0]))
        return self._sizes[match]


def has_clear_answer(graph: Graph, gql: str, *, order: str = "", smallest_set: int = 1) -> bool:
    """True if the query returns 1–200 rows, none of them 0 or NULL, from a set of at least `smallest_set` things without ties.

    `order` is what the query sorts by ("c.population DESC"); equal values would leave the answer to the engine's whim.
    """
    limit = re.search(r"LIMIT (\d+)", gql)
    if graph.set_size(gql) < max(smallest_set, int(limit[1]) if limit else 1):
        return False
    rows = graph.rows(gql)
    if not 1 <= len(rows) <= MOST_ROWS or any(value is None or value == 0 for value in rows[0]):
        return False
    if not order:
        return True
    match = gql.split("\nRETURN", 1)[0]
    deciding = f"\nLIMIT {int(limit[1]) + 1}" if limit else ""
    values = [row[0] for row in graph.rows(f"{match}\nRETURN {order.split()[0]}\nORDER BY {order}{deciding}")]
    return len(set(map(str, values))) == len(values)

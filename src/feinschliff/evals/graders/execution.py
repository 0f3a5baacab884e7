"""Execution accuracy: a query is right when it gives the gold query's result on the same database."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from feinschliff.core.chat import Example
from feinschliff.core.ports import GraderFailure, Reply, Score
from feinschliff.evals.engines.child import Child, EngineBroken
from feinschliff.evals.engines.rows import Refused, Rows, same
from feinschliff.evals.engines.setup import database_for
from feinschliff.evals.engines.tokens import is_ordered
from feinschliff.evals.graders.extract import Extract, extracted
from feinschliff.evals.graders.installed import need

_KEPT_ROWS = 1_000_000  # over all remembered results


@dataclass(frozen=True)
class Execution:
    """1 where the reply's result equals the gold query's on `engine`. Column names don't count; the order of rows does where
    the gold query has an ORDER BY (`ordered = "auto"`), or "always", or "never".

    `database` is a file, opened read-only; `setup` a script (Cypher or SQL) that builds one, once, into the cache. On ladybug
    ISO GQL is mapped to its Cypher. A reply that does not run, takes longer than `timeout_s`, gives more than `max_rows` rows
    or would do anything but read scores 0; a gold query that does so, or an engine that breaks, is a failure of the grader.
    """

    engine: Literal["ladybug", "sqlite", "duckdb"]
    database: Path | None = None
    setup: Path | None = None
    timeout_s: float = 5.0
    ordered: Literal["auto", "always", "never"] = "auto"
    max_rows: int = 100_000
    extract: Extract = "fence"
    base: Path = field(default=Path(), repr=False)
    binary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if (self.database is None) == (self.setup is None):
            raise ValueError("takes exactly one of `database` (a file) and `setup` (a script)")
        if self.timeout_s <= 0 or self.max_rows <= 0:
            raise ValueError("timeout_s and max_rows are positive")
        if not self._source.is_file():
            raise ValueError(f"there is no file {self._source}")
        if self.engine != "sqlite":
            need(self.engine, feature=f"Execution on {self.engine}")

    @property
    def _source(self) -> Path:
        return self.base / (self.database or self.setup or "")

    @cached_property
    def _child(self) -> Child:
        file = self._source if self.database else database_for(self.engine, self._source)
        return Child(self.engine, file, max_rows=self.max_rows, timeout_s=self.timeout_s)

    @cached_property
    def _results(self) -> dict[str, Rows | Refused]:
        return {}

    def prepare(self) -> None:
        """Build the database now, so that a broken set-up script is found before anything is trained. Raises BadStudy."""
        _ = self._child

    def __call__(self, example: Example, reply: Reply) -> Score | GraderFailure:
        query, wanted = extracted(reply.text, self.extract), extracted(example.answer, self.extract)
        try:
            gold = self._run(wanted)
            if isinstance(gold, Refused):
                return GraderFailure(f"the gold query does not run: {gold.why}")
            said = self._run(query)
        except EngineBroken as error:
            return GraderFailure(str(error))
        if isinstance(said, Refused):
            return Score(0.0, why=said.why)
        difference = same(gold.rows, said.rows, ordered=self._is_ordered(wanted))
        return Score(0.0, why=difference) if difference else Score(1.0)

    def _is_ordered(self, gold: str) -> bool:
        return (
            is_ordered(gold, sql=self.engine != "ladybug")
            if self.ordered == "auto"
            else self.ordered == "always"
        )

    def _run(self, query: str) -> Rows | Refused:
        """The query's result; the same text is run once, as arms often agree with each other and with the gold query."""
        if query in self._results:
            return self._results[query]
        result = self._child.ask(query)
        size = len(result.rows) if isinstance(result, Rows) else 1
        if size * 100 <= _KEPT_ROWS:
            self._results[query] = result
        while len(self._results) * size > _KEPT_ROWS:
            self._results.pop(next(iter(self._results)))
        return result

    def close(self) -> None:
        """End the child process; a later call starts another."""
        if "_child" in self.__dict__:  # asked for here, a database that was never needed would be built to be closed
            self._child.close()

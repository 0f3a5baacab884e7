"""Is the reply ISO GQL? Answered by gqlppy's grammar, in a child process, because an Earley parse can take very long."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from feinschliff.core.chat import Example
from feinschliff.core.ports import GraderFailure, Reply, Score
from feinschliff.evals.engines.child import Child, EngineBroken
from feinschliff.evals.engines.rows import Refused
from feinschliff.evals.engines.tokens import tokens
from feinschliff.evals.graders.extract import Extract, extracted
from feinschliff.evals.graders.installed import need

_KEPT = 4096  # verdicts remembered


@dataclass(frozen=True)
class GqlSyntax:
    """1 where the reply parses as an ISO GQL program. Longer texts than `max_characters` and slower ones than `timeout_s` score 0.

    The verdict is remembered by the query's shape: its text with every string literal made the same, since what a
    literal holds is no matter of syntax. Of 1,213 distinct training queries of ZOGRASCOPE that leaves 444 to parse.
    """

    extract: Extract = "fence"
    max_characters: int = 4000
    timeout_s: float = 10.0
    binary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.timeout_s <= 0 or self.max_characters <= 0:
            raise ValueError("timeout_s and max_characters are positive")
        need("gqlppy", feature="The GQL syntax grader")

    @cached_property
    def _parser(self) -> Child:
        return Child("gql", Path(), max_rows=1, timeout_s=self.timeout_s)

    @cached_property
    def _verdicts(self) -> dict[str, str]:
        return {}

    def __call__(self, example: Example, reply: Reply) -> Score | GraderFailure:
        query = extracted(reply.text, self.extract)
        if len(query) > self.max_characters:
            return Score(0.0, why=f"longer than {self.max_characters} characters")
        try:
            why = self._why(shape(query))
        except EngineBroken as error:
            return GraderFailure(str(error))
        return Score(0.0, why=why) if why else Score(1.0)

    def _why(self, query: str) -> str:
        if query not in self._verdicts:
            answer = self._parser.ask(query)
            if len(self._verdicts) >= _KEPT:
                self._verdicts.pop(next(iter(self._verdicts)))
            self._verdicts[query] = answer.why.partition("\n")[0] if isinstance(answer, Refused) else ""
        return self._verdicts[query]

    def close(self) -> None:
        """End the child process; a later call starts another."""
        self._parser.close()


def shape(query: str) -> str:
    """`query` with the inside of its plain string literals replaced. Literals with an escape, and open ones, stay."""
    return "".join(
        t.text[0] + "x" + t.text[0]
        if t.kind == "string"
        and len(t.text) > 2
        and t.text[-1] == t.text[0]
        and not set(t.text[1:-1]) & {"\\", t.text[0], "\n"}
        else t.text
        for t in tokens(query)
    ).strip()

"""What a run of an evaluation adds up to, item by item."""
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from feinschliff.core.chat import Wire

ItemStatus = Literal["pass", "fail", "error"]


class Usage(Wire):
    """What one model was asked and has answered, for the samples and for graders."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            calls=self.calls + other.calls, prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens, cached_tokens=self.cached_tokens + other.cached_tokens,
        )  # fmt: skip


class ItemResult(Wire):
    """One item, judged. `passed` has a place for each criterion, None where there was no score."""

    number: int
    status: ItemStatus
    passed: tuple[bool | None, ...]
    usage: dict[str, Usage]
    content: dict[str, Any]


class Tallies(Wire):
    """`criteria`: how many items have passed and failed each, in the order of the criteria."""

    passed: int = 0
    failed: int = 0
    errored: int = 0
    criteria: tuple[tuple[int, int], ...] = ()
    usage: dict[str, Usage] = Field(default_factory=dict)

    def and_also(self, results: Sequence[ItemResult]) -> "Tallies":
        usage = dict(self.usage)
        for result in results:
            for model, more in result.usage.items():
                usage[model] = usage.get(model, Usage()) + more
        counts = {status: sum(r.status == status for r in results) for status in ("pass", "fail", "error")}
        criteria = tuple(
            (passed + sum(r.passed[i] is True for r in results), failed + sum(r.passed[i] is False for r in results))
            for i, (passed, failed) in enumerate(self.criteria)
        )
        return Tallies(
            passed=self.passed + counts["pass"], failed=self.failed + counts["fail"], errored=self.errored + counts["error"],
            criteria=criteria, usage=usage,
        )  # fmt: skip

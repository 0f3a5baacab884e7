"""Grading many replies. The one place where a grader's own code, which may be a user's, is allowed to break."""

from collections.abc import Sequence

from feinschliff.core.chat import Example
from feinschliff.core.ports import Grader, GraderFailure, Reply, Score


def grade_all(
    grader: Grader, examples: Sequence[Example], replies: Sequence[Reply]
) -> list[Score | GraderFailure]:
    """One grade per pair, in order. What the grader raises is recorded as its failure on that pair; the rest go on."""
    return [_graded(grader, *pair) for pair in zip(examples, replies, strict=True)]


def _graded(grader: Grader, example: Example, reply: Reply) -> Score | GraderFailure:
    try:
        return grader(example, reply)
    except Exception as error:  # noqa: BLE001  a grader may be a user's code and raise anything
        return GraderFailure(f"{type(error).__name__}: {error}")

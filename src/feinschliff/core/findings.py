"""What validation says about a data file: one finding a problem, with its place and remedy."""
from typing import Literal

from feinschliff.core.chat import Wire

Level = Literal["error", "warning"]


class Finding(Wire):
    """`line` is 1-based; 0 means the file as a whole. `code` is stable, for scripts; `hint` is the remedy."""

    line: int
    level: Level
    code: str
    message: str
    hint: str = ""


class CheckReport(Wire):
    """The answer of `feinschliff data check --json`."""

    n_examples: int
    n_errors: int
    n_warnings: int
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, n_examples: int, findings: tuple[Finding, ...]) -> "CheckReport":
        n_errors = sum(f.level == "error" for f in findings)
        return cls(
            n_examples=n_examples, n_errors=n_errors, n_warnings=len(findings) - n_errors, findings=findings
        )


class FindingGroup(Wire):
    """All findings of one kind: how many there are, and the first of them."""

    code: str
    level: Level
    n: int
    first: tuple[Finding, ...]


class FileCheck(Wire):
    """The answer of `python -m feinschliff.data FILE`. Token counts are there where a model was named."""

    n_examples: int
    n_errors: int
    n_warnings: int
    groups: tuple[FindingGroup, ...]
    n_tokens: int | None = None
    n_trained: int | None = None
    n_too_long: int | None = None
    longest: int | None = None  # tokens of the longest example
    n_characters: int = 0  # of the messages' texts
    longest_characters: int = 0

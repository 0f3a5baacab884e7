"""Collecting findings while a file is read, so that one bad line does not hide the next."""
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from feinschliff.core.findings import Finding


class Problems:
    """A growing list of findings. A row is usable while no error was added for it."""

    def __init__(self) -> None:
        self.found: list[Finding] = []

    def error(self, line: int, code: str, message: str, hint: str = "") -> None:
        self.found.append(Finding(line=line, level="error", code=code, message=message, hint=hint))

    def warning(self, line: int, code: str, message: str, hint: str = "") -> None:
        self.found.append(Finding(line=line, level="warning", code=code, message=message, hint=hint))

    def __len__(self) -> int:
        return len(self.found)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """By line; findings about the whole file (line 0) first; otherwise in the order they were made."""
    return tuple(sorted(findings, key=lambda f: f.line))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that `word` was probably meant to be."""
    by_folded = {k.casefold(): k for k in known}
    hits = get_close_matches(word.casefold(), list(by_folded), n=1, cutoff=0.6)
    return by_folded[hits[0]] if hits else None


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A hint: the nearest name where one is near, and always what there is."""
    guess = nearest(word, known)
    listed = f"Known: {', '.join(known)}." if known else ""
    return f"Did you mean {guess!r}? {listed}".strip() if guess else listed

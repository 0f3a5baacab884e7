"""Graders that compare the words of reply and gold answer, all binary but `fuzzy` without a threshold."""

import re
import unicodedata
from dataclasses import dataclass
from typing import ClassVar, Literal

from rapidfuzz import fuzz

from feinschliff.core.chat import Example
from feinschliff.core.ports import GraderFailure, Reply, Score
from feinschliff.evals.graders.extract import Extract, extracted


@dataclass(frozen=True)
class Exact:
    """1 where the reply is the gold answer, character for character; with `strip`, but for blanks at its ends."""

    strip: bool = True
    extract: Extract = "none"
    binary: ClassVar[bool] = True

    def __call__(self, example: Example, reply: Reply) -> Score | GraderFailure:
        gold, said = extracted(example.answer, self.extract), extracted(reply.text, self.extract)
        return _same(gold.strip(), said.strip()) if self.strip else _same(gold, said)


@dataclass(frozen=True)
class Normalised:
    """1 where both texts are equal after `normalised`: case, punctuation and blanks do not count."""

    extract: Extract = "none"
    binary: ClassVar[bool] = True

    def __call__(self, example: Example, reply: Reply) -> Score | GraderFailure:
        return _same(
            normalised(extracted(example.answer, self.extract)),
            normalised(extracted(reply.text, self.extract)),
        )


def normalised(text: str) -> str:
    """NFKC, case-folded, punctuation removed, runs of blanks made one space.

    Kept, because a number would become another: punctuation between two digits (3.5, 10/08), and a minus before a digit
    that no letter or digit precedes (-5). A hyphen or underscore between words becomes a space.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept: list[str] = []
    for i, char in enumerate(folded):
        before, after = folded[i - 1 : i] if i else "", folded[i + 1 : i + 2]
        in_number = after.isdigit() and (before.isdigit() or (char in "-−" and not before.isalnum()))
        if not unicodedata.category(char).startswith("P") and char != "−":
            kept.append(char)
        elif in_number:
            kept.append("-" if char == "−" else char)
        elif char in "-_–—/":
            kept.append(" ")
    return " ".join("".join(kept).split())


@dataclass(frozen=True)
class Regex:
    """1 where `pattern` (Python's `re`) is found in the reply ("search") or covers it ("fullmatch").

    With `capture` (a group's number or name) what the group holds must equal the gold answer, or what the same pattern
    captures in the gold answer where it matches there too; blanks at the ends don't count.
    """

    pattern: str
    mode: Literal["search", "fullmatch"] = "search"
    capture: int | str | None = None
    ignore_case: bool = False
    extract: Extract = "none"
    binary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        try:
            groups = self._compiled().groups
            names = self._compiled().groupindex
        except re.error as error:
            raise ValueError(f"pattern {self.pattern!r} is not a regular expression: {error}") from None
        known = (
            self.capture is None
            or self.capture in names
            or (isinstance(self.capture, int) and 0 <= self.capture <= groups)
        )
        if not known:
            raise ValueError(f"pattern {self.pattern!r} has no group {self.capture!r}")

    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.IGNORECASE if self.ignore_case else 0)  # kept by re's own cache

    def _find(self, text: str) -> re.Match[str] | None:
        pattern, cut = self._compiled(), extracted(text, self.extract)
        return pattern.fullmatch(cut) if self.mode == "fullmatch" else pattern.search(cut)

    def __call__(self, example: Example, reply: Reply) -> Score | GraderFailure:
        found = self._find(reply.text)
        if found is None:
            return Score(0.0, why="the pattern is not found")
        if self.capture is None:
            return Score(1.0)
        in_gold = self._find(example.answer)
        gold = (in_gold.group(self.capture) or "") if in_gold else example.answer
        return _same(gold.strip(), (found.group(self.capture) or "").strip())


@dataclass(frozen=True)
class Contains:
    """1 where the reply contains all of `texts`, or the gold answer where none are given; `fold`: in any case."""

    texts: tuple[str, ...] = ()
    fold: bool = True
    extract: Extract = "none"
    binary: ClassVar[bool] = True

    def __call__(self, example: Example, reply: Reply) -> Score | GraderFailure:
        said = extracted(reply.text, self.extract)
        wanted = self.texts or (example.answer.strip(),)
        if not all(wanted):
            return GraderFailure("there is no text to look for: the gold answer is empty")
        missing = [text for text in wanted if not _contains(said, text, fold=self.fold)]
        return Score(0.0, why=f"lacks {missing[0]!r}") if missing else Score(1.0)


def _contains(said: str, text: str, *, fold: bool) -> bool:
    return text.casefold() in said.casefold() if fold else text in said


@dataclass(frozen=True)
class Fuzzy:
    """Similarity of the texts: rapidfuzz's ratio, 2·matches / total length, in [0, 1]. With `threshold`: 1 from there on, else 0."""

    threshold: float | None = None
    strip: bool = True
    extract: Extract = "none"

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError("threshold is a similarity between 0 and 1")

    @property
    def binary(self) -> bool:
        return self.threshold is not None

    def __call__(self, example: Example, reply: Reply) -> Score | GraderFailure:
        gold, said = extracted(example.answer, self.extract), extracted(reply.text, self.extract)
        ratio = fuzz.ratio(gold.strip(), said.strip()) if self.strip else fuzz.ratio(gold, said)
        similarity = ratio / 100
        if self.threshold is None:
            return Score(similarity)
        return Score(float(similarity >= self.threshold), why=f"similarity {similarity:.3f}")


def _same(gold: str, said: str) -> Score:
    return Score(1.0) if gold == said else Score(0.0, why=f"{_short(said)!r} is not {_short(gold)!r}")


def _short(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "…"

"""Does the training data hold the held-out questions? Exactly, up to spelling, or nearly.

Near-duplicates are found with an exact set-similarity join (prefix filter: Bayardo, Ma, Srikant 2007, "Scaling up all
pairs similarity search"), not with MinHash: it misses none, needs no random seed, and at such thresholds is as fast.
"""
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from feinschliff.core.chat import Example, ExampleId

LeakKind = Literal["exact", "normalised", "near_duplicate"]
KINDS: tuple[LeakKind, ...] = ("exact", "normalised", "near_duplicate")
LONG_WORDS, SHORT_WORDS = 12, 14  # of fewer than 12 words, one changed word changes a quarter of the 3-shingles or more
CHARACTERS = 4  # size of the character shingles of short texts
WORD = re.compile(r"\w+")
NUMBER = re.compile(r"\d+")

Shingles = frozenset[str]
NONE: Shingles = frozenset()


@dataclass(frozen=True, slots=True)
class Leak:
    """One training row and the held-out row that it gives away."""

    kind: LeakKind
    train_id: ExampleId
    train_line: int
    test_id: ExampleId
    test_line: int
    similarity: float  # Jaccard of the shingles; 1.0 for exact and normalised


@dataclass(frozen=True, slots=True)
class Leakage:
    """`leaks` holds one entry a leaking training row: its strongest. `n_shared_answer` training rows have an answer that
    is also a held-out gold answer; that is reported and never removed (labels and common queries recur rightly).
    """

    leaks: tuple[Leak, ...]
    n_shared_answer: int

    @property
    def leaked_ids(self) -> frozenset[ExampleId]:
        """The training rows to drop."""
        return frozenset(leak.train_id for leak in self.leaks)

    @property
    def n_leaked(self) -> int:
        return len(self.leaks)

    @property
    def counts(self) -> dict[str, int]:
        """Kind → number of training rows, as `SplitReport.leaks` has it."""
        found = Counter(leak.kind for leak in self.leaks)
        return {kind: found[kind] for kind in KINDS} | {"shared_answer": self.n_shared_answer}


def find_leaks(train: Sequence[Example], held_out: Sequence[Example], threshold: float = 0.9) -> Leakage:
    """Compares every training question with every held-out one.

    `threshold`: Jaccard similarity from which two questions are near-duplicates, over word 3-shingles, or character
    4-shingles where a question is short. Questions whose numbers differ are never near-duplicates.
    """
    by_id = {example.id: example for example in held_out}
    texts_test = [normalised(example) for example in held_out]
    by_text = {text: example for text, example in zip(texts_test, held_out, strict=True) if text}
    answers = {answer for example in held_out if (answer := example.answer.strip())}
    leaks: list[Leak] = []
    open_rows: list[tuple[Example, str]] = []
    for example in train:
        text = normalised(example)
        if (same := by_id.get(example.id)) is not None:
            leaks.append(_leak("exact", example, same, 1.0))
        elif (same := by_text.get(text)) is not None:
            leaks.append(_leak("normalised", example, same, 1.0))
        else:
            open_rows.append((example, text))
    near = best_matches([text for _, text in open_rows], texts_test, threshold)
    leaks += [_leak("near_duplicate", open_rows[i][0], held_out[j], similarity) for i, j, similarity in near]
    leaks.sort(key=lambda leak: (KINDS.index(leak.kind), -leak.similarity, leak.train_line))
    return Leakage(tuple(leaks), sum(example.answer.strip() in answers for example in train))


def _leak(kind: LeakKind, train: Example, test: Example, similarity: float) -> Leak:
    return Leak(kind, train.id, train.line, test.id, test.line, round(similarity, 4))


def normalised(example: Example) -> str:
    """All that is said before the answer, the system text aside: case, white space and punctuation folded.

    The whole conversation and not its last question, which is often just "yes, please".
    """
    said = " ".join(m.content or "" for m in example.prompt if m.role not in ("system", "developer"))
    return fold(said)


def fold(text: str) -> str:
    return " ".join(WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def best_matches(queries: Sequence[str], targets: Sequence[str], threshold: float) -> Iterator[tuple[int, int, float]]:
    """(query, its most similar target, Jaccard) wherever that reaches `threshold`. Texts are folded."""
    best: dict[int, tuple[float, int]] = {}
    for shingled in (word_shingles, character_shingles):
        for i, j, similarity in _join([shingled(q) for q in queries], [shingled(t) for t in targets], threshold):
            if (similarity, -j) > best.get(i, (0.0, 0)) and NUMBER.findall(queries[i]) == NUMBER.findall(targets[j]):
                best[i] = (similarity, -j)
    for i, (similarity, minus_j) in sorted(best.items()):
        yield i, -minus_j, similarity


def _join(
    queries: Sequence[Shingles], targets: Sequence[Shingles], threshold: float
) -> Iterator[tuple[int, int, float]]:
    """All pairs that reach the threshold. Two sets with Jaccard >= t share a shingle among the first
    |s| - ceil(t·|s|) + 1 of each in any common order; rarest first leaves the fewest candidates.
    """
    frequency = Counter(shingle for one in (*queries, *targets) for shingle in one)
    index: dict[str, list[int]] = {}
    for j, target in enumerate(targets):
        for shingle in _prefix(target, frequency, threshold):
            index.setdefault(shingle, []).append(j)
    for i, query in enumerate(queries):
        for j in {j for shingle in _prefix(query, frequency, threshold) for j in index.get(shingle, ())}:
            similarity = _jaccard(query, targets[j])
            if similarity >= threshold:
                yield i, j, similarity


def word_shingles(text: str) -> Shingles:
    """Word 3-shingles; none of a text under 12 words, where they are too coarse."""
    words = text.split()
    return frozenset(" ".join(words[i : i + 3]) for i in range(len(words) - 2)) if len(words) >= LONG_WORDS else NONE


def character_shingles(text: str) -> Shingles:
    """Character 4-shingles; none of a text over 14 words. Texts of 12 to 14 words have both kinds, so that two texts
    on either side of one limit are still compared.
    """
    if not text or len(text.split()) > SHORT_WORDS:
        return NONE
    padded = f"\0{text}\0"
    return frozenset(padded[i : i + CHARACTERS] for i in range(max(1, len(padded) - CHARACTERS + 1)))


def _prefix(one: Shingles, frequency: Counter[str], threshold: float) -> list[str]:
    n = len(one) - math.ceil(threshold * len(one) - 1e-9) + 1
    return sorted(one, key=lambda shingle: (frequency[shingle], shingle))[:n]


def _jaccard(a: Shingles, b: Shingles) -> float:
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)

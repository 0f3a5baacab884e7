"""Classification: which label a reply means, and the metrics over many of them."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from feinschliff.core.chat import Example
from feinschliff.core.ports import GraderFailure, Reply, Score
from feinschliff.evals.graders.extract import Extract, extracted
from feinschliff.evals.graders.text import normalised


@dataclass(frozen=True)
class Label:
    """1 where the reply means the gold label. `Score.label` carries the label taken from the reply, "" where it is none.

    `labels` is the closed set. A reply is the label it equals after `normalised`, else the only label it contains as
    whole words ("I think it is card_arrival." → card_arrival). Without a set, only the gold label is looked for.
    """

    labels: tuple[str, ...] = ()
    extract: Extract = "none"
    binary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if len(self._known) != len(self.labels):
            raise ValueError("two labels are the same but for case or punctuation")

    def seen(self, golds: Iterable[str]) -> "Label":
        """This grader with the gold labels as its closed set, where the study file names none."""
        if self.labels:
            return self
        first = {normalised(gold): gold.strip() for gold in golds}
        return replace(self, labels=tuple(sorted(first.values())))

    @cached_property
    def _known(self) -> dict[str, str]:
        return {normalised(label): label for label in self.labels}

    def __call__(self, example: Example, reply: Reply) -> Score | GraderFailure:
        gold = normalised(extracted(example.answer, self.extract))
        known = self._known or {gold: example.answer.strip()}
        if gold not in known:
            return GraderFailure(f"the gold label {example.answer!r} is not one of the labels")
        said = self._label(normalised(extracted(reply.text, self.extract)), known)
        if said == gold:
            return Score(1.0, label=known[gold])
        why = f"says {known[said]}" if said is not None else "names no label, or several"
        return Score(0.0, why=why, label=known[said] if said is not None else "")

    @staticmethod
    def _label(said: str, known: dict[str, str]) -> str | None:
        if said in known:
            return said
        found = [label for label in known if label and re.search(rf"(?<!\w){re.escape(label)}(?!\w)", said)]
        widest = [a for a in found if not any(a != b and a in b for b in found)]
        return widest[0] if len(widest) == 1 else None


def accuracy(pairs: Sequence[tuple[str, str]]) -> float:
    """The part of (gold, predicted) pairs that agree. Raises ValueError without any."""
    if not pairs:
        raise ValueError("no labels to compare")
    return sum(gold == predicted for gold, predicted in pairs) / len(pairs)


def macro_f1(pairs: Sequence[tuple[str, str]]) -> float:
    """The mean over the gold labels of each one's F1, all labels counting the same. Raises ValueError without any pair.

    A predicted label that is never gold (or "") is a miss for the gold label and no class of its own.
    """
    if not pairs:
        raise ValueError("no labels to compare")
    golds, predicted = Counter(g for g, _ in pairs), Counter(p for _, p in pairs)
    right = Counter(g for g, p in pairs if g == p)
    return sum(2 * right[label] / (n + predicted[label]) for label, n in golds.items()) / len(golds)

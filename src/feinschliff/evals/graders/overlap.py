"""chrF, BLEU and ROUGE-L: how much of the gold text's characters or words the reply has, in [0, 1]."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import sacrebleu
from rapidfuzz.distance import LCSseq

from feinschliff.core.chat import Example
from feinschliff.core.ports import GraderFailure, Reply, Score
from feinschliff.evals.graders.extract import Extract, extracted
from feinschliff.evals.graders.text import normalised

_NO_GOLD = GraderFailure("the gold answer is empty")


@dataclass(frozen=True)
class Chrf:
    """chrF2 of one sentence (Popović 2015): F-score of character n-grams, sacrebleu's, divided by 100."""

    extract: Extract = "none"
    binary: ClassVar[bool] = False

    def __call__(self, example: Example, reply: Reply) -> Score | GraderFailure:
        gold, said = extracted(example.answer, self.extract), extracted(reply.text, self.extract)
        return Score(sacrebleu.sentence_chrf(said, [gold]).score / 100) if gold.strip() else _NO_GOLD


@dataclass(frozen=True)
class Bleu:
    """BLEU of one sentence (Papineni et al. 2002), sacrebleu's with its smoothing and effective order, divided by 100."""

    extract: Extract = "none"
    binary: ClassVar[bool] = False

    def __call__(self, example: Example, reply: Reply) -> Score | GraderFailure:
        gold, said = extracted(example.answer, self.extract), extracted(reply.text, self.extract)
        if not gold.strip():
            return _NO_GOLD
        return Score(sacrebleu.sentence_bleu(said, [gold], use_effective_order=True).score / 100)


@dataclass(frozen=True)
class Rouge:
    """ROUGE-L (Lin 2004): F1 of the longest common subsequence of words, after `normalised`."""

    extract: Extract = "none"
    binary: ClassVar[bool] = False

    def __call__(self, example: Example, reply: Reply) -> Score | GraderFailure:
        gold, said = extracted(example.answer, self.extract), extracted(reply.text, self.extract)
        return Score(rouge_l(gold, said)) if gold.strip() else _NO_GOLD


def rouge_l(gold: str, said: str) -> float:
    """F1 of the longest common subsequence of the words of both texts; 0 where one has none."""
    ours, theirs = normalised(gold).split(), normalised(said).split()
    common = LCSseq.similarity(ours, theirs)
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0


def corpus_chrf(golds: Sequence[str], replies: Sequence[str]) -> float:
    """chrF2 over all pairs at once, in [0, 1]; not the mean of the sentences' scores."""
    return sacrebleu.corpus_chrf(list(replies), [list(golds)]).score / 100


def corpus_bleu(golds: Sequence[str], replies: Sequence[str]) -> float:
    """BLEU over all pairs at once, in [0, 1]; not the mean of the sentences' scores."""
    return sacrebleu.corpus_bleu(list(replies), [list(golds)]).score / 100

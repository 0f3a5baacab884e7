"""Measures of `text_similarity` that need no model, each in [0, 1]. Words are those of `normalised`: case and punctuation do not count."""
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import sacrebleu
from rapidfuzz import fuzz

from feinschliff.evals.graders.overlap import rouge_l
from feinschliff.evals.graders.text import normalised

Measure = Callable[[str, str], float]  # of what was said and the reference


def fuzzy_match(said: str, reference: str) -> float:
    """rapidfuzz's ratio: 2·matches / total length."""
    return fuzz.ratio(said, reference) / 100


def bleu(said: str, reference: str) -> float:
    """BLEU of one sentence (Papineni et al. 2002), sacrebleu's with its smoothing and effective order."""
    return sacrebleu.sentence_bleu(said, [reference], use_effective_order=True).score / 100 if reference.strip() else float(not said.strip())


def gleu(said: str, reference: str) -> float:
    """Google's GLEU (Wu et al. 2016, section 8): the lesser of precision and recall over all n-grams of one to four words."""
    ours, theirs = normalised(said).split(), normalised(reference).split()
    common = sum((_grams(ours, n) & _grams(theirs, n)).total() for n in range(1, 5))
    most = max(sum(_grams(words, n).total() for n in range(1, 5)) for words in (ours, theirs))
    return common / most if most else 1.0


def rouge(n: int) -> Measure:
    """ROUGE-N (Lin 2004): F1 of the n-grams of words that both texts have."""

    def f1(said: str, reference: str) -> float:
        ours, theirs = _grams(normalised(said).split(), n), _grams(normalised(reference).split(), n)
        common = (ours & theirs).total()
        return 2 * common / (ours.total() + theirs.total()) if common else 0.0

    return f1


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


MEASURES: Mapping[str, Measure] = {
    "fuzzy_match": fuzzy_match, "bleu": bleu, "gleu": gleu, "rouge_l": lambda said, reference: rouge_l(reference, said),
    **{f"rouge_{n}": rouge(n) for n in range(1, 6)},
}  # fmt: skip

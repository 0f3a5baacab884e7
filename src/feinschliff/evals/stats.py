"""Intervals, paired tests and power: what a held-out set of n examples can and cannot say.

Arrays are one-dimensional, (n,) float64, one entry per example; paired arrays are aligned. Every resampling is seeded.
"""
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from feinschliff.core.ports import Estimate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CONFIDENCE = 0.95
ALPHA = 0.05
POWER = 0.8
DRAWS = 2000
DISCORDANCE_FLOOR = 0.05  # two arms that never differed so far may still differ on 1 question in 20
DEVIATION_FLOOR = 0.05  # the same for graded scores: standard deviation of a difference
_BLOCK = 2_000_000  # resampled indices held in memory at once


def wilson(successes: float, n: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927). n = 0 gives (0, 1): nothing is known."""
    if n == 0:
        return 0.0, 1.0
    return wilson_at(successes / n, n, float(special.ndtri(0.5 + confidence / 2)))


def wilson_at(share: float, n: float, z: float) -> tuple[float, float]:
    """The same for a share of `n` answers, which may be an effective number, at a quantile `z` of one's own."""
    z2 = z**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * share * (1 - share) / n + z2**2 / (4 * n**2)) / (1 + z2 / n)
    low = 0.0 if share <= 0 else max(0.0, centre - half)
    high = 1.0 if share >= 1 else min(1.0, centre + half)
    return low, high


def is_binary(values: ArrayLike) -> bool:
    """Whether every score is exactly 0 or 1."""
    array = np.asarray(values, dtype=np.float64)
    return bool(np.all((array == 0) | (array == 1)))


def binary_mean(values: ArrayLike, *, confidence: float = CONFIDENCE) -> Estimate:
    """Share of ones with Wilson's interval."""
    array = np.asarray(values, dtype=np.float64)
    low, high = wilson(float(array.sum()), array.size, confidence=confidence)
    return Estimate(float(array.mean()) if array.size else 0.0, low, high, array.size)


def bootstrap_mean(
    values: ArrayLike, *, clusters: Sequence[str] | None = None, draws: int = DRAWS, seed: int = 0, confidence: float = CONFIDENCE
) -> Estimate:
    """Mean with a bootstrap interval: BCa (Efron 1987), or the percentiles over whole clusters where `clusters` are given.

    Equal values leave nothing to resample; then scores in [0, 1] get Wilson's interval, which is wider than needed
    because no such score varies more than a coin of the same mean.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return Estimate(0.0, 0.0, 1.0, 0)
    mean = float(array.mean())
    in_unit = bool(array.min() >= 0 and array.max() <= 1)
    sums, counts = cluster_sums(array, clusters)
    if np.ptp(array) == 0 or sums.size < 2:
        low, high = wilson(float(array.sum()), sums.size if clusters else array.size) if in_unit else (mean, mean)
        return Estimate(mean, min(low, mean), max(high, mean), array.size)
    means = _resampled_means(sums, counts, draws, seed)
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    levels = tails if clusters is not None else _bca_levels(array, means, tails)
    low, high = (float(q) for q in np.quantile(means, levels))
    return Estimate(mean, min(low, mean), max(high, mean), array.size)


def macro_f1(
    gold: Sequence[str], predicted: Sequence[str], *, draws: int = DRAWS, seed: int = 0, confidence: float = CONFIDENCE
) -> Estimate:
    """Unweighted mean of the per-class F1 over the classes that occur in `gold`, with a percentile bootstrap interval.

    A label that is no gold class counts as a miss of the gold class and opens no class of its own, since a language
    model can invent any number of labels. A resample's mean is over the classes it drew.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold labels but {len(predicted)} predicted")
    if not gold:
        return Estimate(0.0, 0.0, 1.0, 0)
    classes = {label: i for i, label in enumerate(sorted(set(gold)))}
    truth = np.array([classes[label] for label in gold], dtype=np.int64)
    said = np.array([classes.get(label, len(classes)) for label in predicted], dtype=np.int64)
    value = float(_macro_f1_rows(truth[None], said[None], len(classes))[0])
    rows = [_macro_f1_rows(truth[i], said[i], len(classes)) for i in _resamples(truth.size, draws, seed)]
    low, high = (float(q) for q in np.quantile(np.concatenate(rows), [(1 - confidence) / 2, (1 + confidence) / 2]))
    return Estimate(value, min(low, value), max(high, value), len(gold))


def mcnemar_exact(wins: int, losses: int) -> float:
    """Two-sided exact p-value that wins and losses are equally likely (McNemar 1947; binomial form). No discordant pair: 1."""
    n = wins + losses
    return 1.0 if n == 0 else float(min(1.0, stats.binomtest(wins, n, 0.5).pvalue))


def newcombe_paired(both: int, wins: int, losses: int, neither: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval of a paired difference of proportions: method 10 of Newcombe 1998 (Statistics in Medicine 17, 2635–2650).

    `wins`: only the arm is right; `losses`: only the baseline is. It squares and adds Wilson's intervals and corrects
    for their correlation, so near p = 0.05 it may disagree with the exact test; the test decides, the interval shows size.
    """
    n = both + wins + losses + neither
    if n == 0:
        return -1.0, 1.0
    p1, p2 = (both + wins) / n, (both + losses) / n
    low1, high1 = wilson(both + wins, n, confidence=confidence)
    low2, high2 = wilson(both + losses, n, confidence=confidence)
    margins = (both + wins) * (losses + neither) * (both + losses) * (wins + neither)
    cross = both * neither - wins * losses
    cross = max(cross - n / 2, 0.0) if cross > 0 else cross
    phi = cross / math.sqrt(margins) if margins else 0.0
    below = (p1 - low1) ** 2 - 2 * phi * (p1 - low1) * (high2 - p2) + (high2 - p2) ** 2
    above = (high1 - p1) ** 2 - 2 * phi * (high1 - p1) * (p2 - low2) + (p2 - low2) ** 2
    difference = (wins - losses) / n
    return max(-1.0, difference - math.sqrt(max(below, 0.0))), min(1.0, difference + math.sqrt(max(above, 0.0)))


def paired_bootstrap(
    arm: ArrayLike, baseline: ArrayLike, *, clusters: Sequence[str] | None = None, draws: int = DRAWS, seed: int = 0,
    confidence: float = CONFIDENCE,
) -> tuple[float, float, float]:
    """(p-value, low, high) of the mean of arm − baseline; whole clusters are drawn where `clusters` are given.

    The p-value is two-sided, under the null of a shifted mean (Efron & Tibshirani 1993, 16.4), with sqrt(k/(k−1)) for
    small k and never below 2^(1−k), the least that k independent signs can show. Swapping the sides leaves it as it is.
    """
    difference = np.asarray(arm, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    if difference.size == 0:
        return 1.0, -1.0, 1.0
    sums, counts = cluster_sums(difference, clusters)
    k, mean = sums.size, float(difference.mean())
    if k < 2:
        return 1.0, min(-1.0, mean), max(1.0, mean)
    means = _resampled_means(sums, counts, draws, seed)
    deviations = np.abs(means - mean) * math.sqrt(k / (k - 1))
    # A hair of slack, so that rounding in the means can't turn a tie into a "less extreme".
    extreme = int(np.count_nonzero(deviations >= abs(mean) - 1e-12))
    p = max((1 + extreme) / (draws + 1), 2.0 ** (1 - k))
    low, high = (float(q) for q in np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2]))
    return min(p, 1.0), min(low, mean), max(high, mean)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Step-down adjusted p-values (Holm 1979), in the order given. Reject where the adjusted value is below alpha."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return tuple(adjusted)


def smallest_detectable_binary(n: int, discordance: float, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """Least true difference of two paired proportions that n examples show with this power (Miettinen 1968; Connor 1987).

    Solves n·d² = (z_a·sqrt(ψ) + z_b·sqrt(ψ − d²))² for d, where ψ, the share of discordant pairs, is the observed one but at
    least DISCORDANCE_FLOOR and at least d. Never less than what gives the exact test enough discordant pairs to reject.
    """
    if n == 0:
        return 1.0
    z_a, z_b = float(special.ndtri(1 - alpha / 2)), float(special.ndtri(power))
    floor = min(1.0, max(discordance, DISCORDANCE_FLOOR))

    def shortfall(d: float) -> float:
        psi = max(floor, d)
        return (z_a * math.sqrt(psi) + z_b * math.sqrt(max(psi - d * d, 0.0))) ** 2 - n * d * d

    asymptotic = 1.0 if shortfall(1.0) > 0 else float(optimize.root_scalar(shortfall, bracket=(1e-9, 1.0), method="brentq").root)
    return min(1.0, max(asymptotic, math.ceil(math.log2(2 / alpha)) / n))


def smallest_detectable_graded(n: int, deviation: float, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """Least true mean difference that n pairs show with this power: (z_a + z_b)·sd/sqrt(n), capped at the scale's 1.

    `deviation` is the standard deviation of the paired differences, taken as at least DEVIATION_FLOOR.
    """
    if n < 2:
        return 1.0
    z = float(special.ndtri(1 - alpha / 2) + special.ndtri(power))
    return min(1.0, z * max(deviation, DEVIATION_FLOOR) / math.sqrt(n))


def _resamples(k: int, draws: int, seed: int) -> Iterator[Ints]:
    """Blocks of rows of k indices drawn with replacement, `draws` rows in all; the block size bounds the memory."""
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK // k)
    for start in range(0, draws, rows):
        yield rng.integers(0, k, size=(min(rows, draws - start), k))


def _resampled_means(sums: Floats, counts: Floats, draws: int, seed: int) -> Floats:
    """(draws,) means; with clusters a ratio of two resampled totals."""
    return np.concatenate([sums[i].sum(axis=1) / counts[i].sum(axis=1) for i in _resamples(sums.size, draws, seed)])


def cluster_sums(values: Floats, clusters: Sequence[str] | None) -> tuple[Floats, Floats]:
    """Per cluster its total and its size; without clusters every example is its own."""
    if clusters is None:
        return values, np.ones_like(values)
    if len(clusters) != values.size:
        raise ValueError(f"{values.size} scores but {len(clusters)} cluster ids")
    _, index = np.unique(np.asarray(clusters, dtype=np.str_), return_inverse=True)
    sums = np.bincount(index, weights=values).astype(np.float64)
    return sums, np.bincount(index).astype(np.float64)


def _bca_levels(values: Floats, means: Floats, tails: Floats) -> Floats:
    """The percentiles to read off, corrected for bias and acceleration (Efron 1987, eq. 2.3; the jackknife of a mean is closed)."""
    mean = values.mean()
    below = np.mean(means < mean) + 0.5 * np.mean(means == mean)
    bias = float(special.ndtri(np.clip(below, 1 / (2 * means.size), 1 - 1 / (2 * means.size))))
    centred = values - mean
    acceleration = float((centred**3).sum() / (6 * (centred**2).sum() ** 1.5))
    z = bias + special.ndtri(tails)
    return np.asarray(special.ndtr(bias + z / (1 - acceleration * z)), dtype=np.float64)


def _macro_f1_rows(truth: Ints, said: Ints, n_classes: int) -> Floats:
    """Macro-F1 of each row of (rows, n) class indices; index n_classes means "no gold class"."""
    rows = np.arange(truth.shape[0])[:, None] * (n_classes + 1)
    size = truth.shape[0] * (n_classes + 1)

    def count(index: Ints) -> Floats:
        return np.bincount((rows + index).ravel(), minlength=size).reshape(-1, n_classes + 1)[:, :n_classes].astype(np.float64)

    hits = count(np.where(truth == said, truth, n_classes))
    n_gold, n_said = count(truth), count(said)
    f1 = np.divide(2 * hits, n_gold + n_said, out=np.zeros_like(hits), where=n_gold > 0)
    return np.asarray(f1.sum(axis=1) / np.count_nonzero(n_gold, axis=1), dtype=np.float64)



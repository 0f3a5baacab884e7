"""Several trainings answer the same questions: what holds for the training, and not only for one of its results?

Scores are crossed, runs by examples, and both are samples: other questions and other seeds would have given other scores. The
mean's variance is the sum of both sides' (Clark 1973, min F', Journal of Verbal Learning and Verbal Behavior 12, 335–359):

    V = V_examples + V_runs,   t = mean / sqrt(V),
    df = V² / (V_examples² / (k − 1) + V_runs² / (R − 1))   (Satterthwaite 1946)

V_examples is the variance of the mean of the examples' averages over the R runs, by k clusters where examples stand or fall
together (Miller 2024, arXiv 2411.00640); V_runs that of the mean of the R runs' means. Noise of single answers counts on both
sides, so V is a little too large rather than too small. The multi-bootstrap (Sellam et al. 2022, arXiv 2106.16163) resamples
the same two sides, but is made for more runs than the 3 to 5 that a study trains.
"""
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats as distributions

from feinschliff.core.ports import Estimate
from feinschliff.evals import stats
from feinschliff.evals.stats import ALPHA, CONFIDENCE, DEVIATION_FLOOR, POWER, Floats

ROUNDING = 1e-15  # a variance below this is that of equal numbers, added up in another order


@dataclass(frozen=True, slots=True)
class Crossed:
    """The mean of (n examples, R runs) and how sure it is; `k` independent clusters, of which `k_moving` do not sum to 0."""

    mean: float
    variance: float
    df: float
    n: int
    k: int
    k_moving: int

    def quantile(self, level: float) -> float:
        return float(distributions.t.ppf(level, self.df))

    @property
    def error(self) -> float:
        """The mean's standard error."""
        return math.sqrt(self.variance)


def crossed(scores_NR: Floats, clusters: Sequence[str] | None = None) -> Crossed:
    """Mean and variance components of at least two runs. Raises ValueError for fewer runs or no example."""
    n, n_runs = scores_NR.shape
    if n == 0 or n_runs < 2:
        raise ValueError(f"{n} examples of {n_runs} runs have no crossed variance")
    sums, counts = stats.cluster_sums(scores_NR.mean(axis=1), clusters)
    k, mean = sums.size, float(scores_NR.mean())
    residuals = sums - mean * counts
    by_examples = float((residuals**2).sum()) * k / (k - 1) / n**2 if k > 1 else 0.0
    by_runs = float(scores_NR.mean(axis=0).var(ddof=1)) / n_runs
    variance = total if (total := by_examples + by_runs) > ROUNDING else 0.0
    spread = by_examples**2 / max(k - 1, 1) + by_runs**2 / (n_runs - 1)
    df = variance**2 / spread if variance > 0 else float(max(k - 1, 1))
    return Crossed(mean, variance, df, n, k, int(np.count_nonzero(np.abs(sums) > 1e-12)))


def mean_estimate(scores_NR: Floats, clusters: Sequence[str] | None = None) -> Estimate:
    """Mean over examples and runs. Scores in [0, 1] get Wilson's interval at the effective sample size mean·(1 − mean)/V.

    (Korn & Graubard 1998, Survey Methodology 24, 193–201; Franco et al. 2019, Journal of Survey Statistics and Methodology 7.)
    Where nothing varies, every cluster counts as one answer. Other scales get mean ± t·sqrt(V).
    """
    if scores_NR.shape[0] == 0:
        return Estimate(0.0, 0.0, 1.0, 0)
    c = crossed(scores_NR, clusters)
    t = c.quantile(0.5 + CONFIDENCE / 2)
    if scores_NR.min() < 0 or scores_NR.max() > 1:
        return Estimate(c.mean, c.mean - t * c.error, c.mean + t * c.error, c.n)
    effective = c.mean * (1 - c.mean) / c.variance if c.variance > 0 else float(c.k)
    low, high = stats.wilson_at(c.mean, effective, t)
    return Estimate(c.mean, min(low, c.mean), max(high, c.mean), c.n)


def paired_t(difference_NR: Floats, clusters: Sequence[str] | None = None) -> tuple[float, float, float]:
    """(p-value, low, high) of the mean difference of two arms, of which at least one was trained several times.

    Never below 2^(1−k), the least p-value of a sign test on the k clusters that differ at all. Where examples do not differ from one
    another, the interval is as wide as the rule of three has it for k clusters.
    """
    if difference_NR.shape[0] == 0:
        return 1.0, -1.0, 1.0
    c = crossed(difference_NR, clusters)
    if c.k < 2:
        return 1.0, min(-1.0, c.mean), max(1.0, c.mean)
    half = c.quantile(0.5 + CONFIDENCE / 2) * c.error
    if np.ptp(difference_NR.mean(axis=1)) == 0:
        half = max(half, stats.wilson(0, c.k)[1])
    p = 2 * float(distributions.t.sf(abs(c.mean) / c.error, c.df)) if c.variance > 0 else 0.0
    p = 1.0 if c.k_moving == 0 else min(1.0, max(p, 2.0 ** (1 - c.k_moving)))
    return p, c.mean - half, c.mean + half


def smallest_detectable(difference_NR: Floats, clusters: Sequence[str] | None = None) -> float:
    """Least true difference that so many examples and runs, varying as these do, show with 80 % power; at most 1."""
    if difference_NR.shape[0] < 2:
        return 1.0
    c = crossed(difference_NR, clusters)
    error = max(c.error, DEVIATION_FLOOR / math.sqrt(c.n))
    return min(1.0, (c.quantile(1 - ALPHA / 2) + c.quantile(POWER)) * error)

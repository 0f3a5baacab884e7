"""Several runs on the same questions: what the mean over both is worth."""
import numpy as np
import pytest
from scipy import stats as distributions

from feinschliff.evals import stats
from feinschliff.evals.crossed import crossed, mean_estimate, paired_t, smallest_detectable


def drawn(rng, n=150, runs=3, *, effect=0.0, by_example=0.3, by_run=0.0, noise=0.2):
    """Paired differences as they would be with other questions and other seeds."""
    examples = rng.normal(0, by_example, (n, 1))
    return effect + examples + rng.normal(0, by_run, (1, runs)) + rng.normal(0, noise, (n, runs))


def rejected(by_run, effect=0.0, trials=800):
    """Share of experiments that the crossed test, and one that takes the seeds for given, call significant."""
    rng = np.random.default_rng(1)
    crossed_t, naive = 0, 0
    for _ in range(trials):
        difference = drawn(rng, by_run=by_run, effect=effect)
        crossed_t += paired_t(difference)[0] < 0.05
        naive += distributions.ttest_1samp(difference.mean(axis=1), 0).pvalue < 0.05
    return crossed_t / trials, naive / trials


def test_false_alarms_stay_at_five_percent_when_seeds_differ_and_would_not_if_they_were_ignored():
    ours, naive = rejected(by_run=0.05)
    assert ours < 0.065
    assert naive > 0.15


def test_little_is_lost_when_seeds_do_not_differ():
    ours, naive = rejected(by_run=0.0, effect=0.08)
    assert naive > 0.8
    assert ours > naive - 0.12


def test_intervals_cover_the_truth():
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(500):
        scale = np.clip(0.9 + rng.normal(0, 0.02, (1, 3)), 0, 1)  # seeds that are right on 0.9 of all questions, more or less
        hard = rng.beta(2, 0.25, (80, 1))
        scores = (rng.uniform(size=(80, 3)) < hard * scale / 0.9).astype(float)
        truth = 2 / 2.25  # up to the clipping at 1, which is far below the interval's width
        estimate = mean_estimate(scores)
        hits += estimate.low <= truth <= estimate.high
    assert hits / 500 > 0.93


def test_variance_of_examples_alone_is_that_of_their_means():
    scores = np.array([[0.0, 0.5], [1.0, 1.0], [0.5, 0.0], [0.5, 0.5]])
    scores[:, 1] += scores[:, 0].mean() - scores[:, 1].mean()  # runs of equal mean
    c = crossed(scores)
    assert c.variance == pytest.approx(scores.mean(axis=1).var(ddof=1) / 4)
    assert c.df == pytest.approx(3)


def test_variance_of_runs_alone_is_that_of_their_means_with_few_degrees_of_freedom():
    c = crossed(np.tile([0.2, 0.4, 0.6], (50, 1)))
    assert c.variance == pytest.approx(0.04 / 3)
    assert c.df == pytest.approx(2)


def test_clusters_count_as_one_each():
    rng = np.random.default_rng(0)
    few = drawn(rng, n=20, noise=0.0)
    same = np.repeat(few, 10, axis=0)
    clusters = [str(i // 10) for i in range(200)]
    assert crossed(same, clusters).variance == pytest.approx(crossed(few).variance)
    assert crossed(same).variance < crossed(few).variance / 5


def test_all_right_is_not_certain():
    estimate = mean_estimate(np.ones((40, 3)))
    assert estimate.high == 1.0
    assert estimate.low < stats.wilson(40, 40)[0] + 1e-9  # three answers to one question are one piece of evidence
    p, low, high = paired_t(np.ones((40, 3)))
    assert p == 2.0**-39
    assert low < 1.0 <= high


def test_nothing_differs_anywhere():
    p, low, high = paired_t(np.zeros((40, 3)))
    assert p == 1.0
    assert low < 0 < high
    assert 0.01 < smallest_detectable(np.zeros((40, 3))) < 0.2


def test_five_questions_that_moved_cannot_be_significant():
    difference = np.zeros((300, 3))
    difference[:5] = 1.0
    assert paired_t(difference)[0] == pytest.approx(2.0**-4)


def test_graded_scores_that_vary_little_are_known_well():
    scores = np.clip(np.random.default_rng(0).normal([[0.16, 0.17]], 0.03, (30, 2)), 0, 1)
    estimate = mean_estimate(scores)
    assert estimate.high - estimate.low < 0.25  # two seeds: one degree of freedom between them


def test_scores_on_other_scales_have_their_own_range():
    estimate = mean_estimate(np.random.default_rng(0).normal(40, 5, (60, 2)))
    assert 37 < estimate.low < estimate.value < estimate.high < 43


@pytest.mark.parametrize("shape", [(0, 3), (5, 1)])
def test_too_little_for_a_variance(shape):
    with pytest.raises(ValueError, match="no crossed variance"):
        crossed(np.zeros(shape))


def test_nothing_scored_says_nothing():
    assert mean_estimate(np.zeros((0, 3))).n == 0
    assert paired_t(np.zeros((0, 3))) == (1.0, -1.0, 1.0)
    assert smallest_detectable(np.zeros((0, 3))) == 1.0

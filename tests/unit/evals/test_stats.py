"""Statistics against published values, scipy, and simulation."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from feinschliff.evals import stats

scores = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_wilson_agrees_with_scipy_and_newcombes_table():
    for k, n in ((81, 263), (15, 148), (0, 20), (1, 29), (29, 29)):
        low, high = scipy_stats.binomtest(k, n).proportion_ci(method="wilson")
        assert stats.wilson(k, n) == pytest.approx((low, high), abs=1e-12)
    assert stats.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe 1998a, table I
    assert stats.wilson(0, 0) == (0.0, 1.0)


def test_newcombe_paired_gives_the_papers_example():
    # Newcombe 1998b, table III: (36, 12, 2, 0) → 0.2000, method 10: 0.0569 to 0.3404
    assert stats.newcombe_paired(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    assert stats.newcombe_paired(0, 0, 0, 0) == (-1.0, 1.0)


@given(*[st.integers(0, 40)] * 4)
def test_newcombe_is_antisymmetric_and_holds_the_difference(both, wins, losses, neither):
    low, high = stats.newcombe_paired(both, wins, losses, neither)
    mirrored = stats.newcombe_paired(both, losses, wins, neither)
    assert mirrored == pytest.approx((-high, -low), abs=1e-12)
    n = both + wins + losses + neither
    if n:
        assert -1 <= low <= (wins - losses) / n + 1e-12
        assert (wins - losses) / n - 1e-12 <= high <= 1


def test_newcombe_covers_the_true_difference():
    rng = np.random.default_rng(1)
    tables = rng.multinomial(80, [0.4, 0.25, 0.1, 0.25], size=1500)
    intervals = [stats.newcombe_paired(*(int(x) for x in row)) for row in tables]
    covered = np.mean([low <= 0.15 <= high for low, high in intervals])
    assert 0.93 <= covered <= 0.98


def test_mcnemar_exact_known_values():
    assert stats.mcnemar_exact(0, 0) == 1.0
    assert stats.mcnemar_exact(5, 0) == pytest.approx(0.0625)
    assert stats.mcnemar_exact(6, 0) == pytest.approx(0.03125)
    assert stats.mcnemar_exact(7, 7) == 1.0
    assert stats.mcnemar_exact(15, 5) == pytest.approx(0.04138947)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_is_a_symmetric_probability(wins, losses):
    p = stats.mcnemar_exact(wins, losses)
    assert 0 < p <= 1
    assert p == pytest.approx(stats.mcnemar_exact(losses, wins))


def test_holm_gives_the_textbook_example():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert stats.holm([]) == ()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_raw_and_bonferroni_and_keeps_the_order(p_values):
    adjusted = stats.holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1.0, len(p_values) * p) + 1e-12
    ranked = [q for _, q in sorted(zip(p_values, adjusted, strict=True))]
    assert ranked == sorted(ranked)


def test_bootstrap_mean_agrees_with_scipys_bca():
    values = np.random.default_rng(3).beta(5, 2, size=120)
    ours = stats.bootstrap_mean(values, draws=8000)
    theirs = scipy_stats.bootstrap((values,), np.mean, method="BCa", n_resamples=8000, rng=0).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)
    assert ours == stats.bootstrap_mean(values, draws=8000)


def test_bootstrap_mean_covers_the_true_mean():
    rng = np.random.default_rng(5)
    hits = 0
    for seed in range(400):
        e = stats.bootstrap_mean(rng.beta(1, 3, size=60), draws=600, seed=seed)
        hits += e.low <= 0.25 <= e.high
    assert 0.91 <= hits / 400 <= 0.98


def test_clusters_widen_the_interval_when_their_members_agree():
    rng = np.random.default_rng(2)
    per_cluster = rng.beta(2, 2, size=20)
    values, ids = np.repeat(per_cluster, 10), [str(i // 10) for i in range(200)]
    alone, clustered = stats.bootstrap_mean(values), stats.bootstrap_mean(values, clusters=ids)
    assert clustered.high - clustered.low > 2 * (alone.high - alone.low)
    p, low, high = stats.paired_bootstrap(values, values[::-1], clusters=ids)
    assert p > 0.5
    assert low < 0 < high


@given(scores)
@settings(max_examples=60)
def test_bootstrap_mean_holds_its_value_inside_the_scale(values):
    e = stats.bootstrap_mean(values, draws=200)
    assert -1e-12 <= e.low <= e.value <= e.high <= 1 + 1e-12
    assert e.n == len(values)


def test_equal_scores_do_not_pretend_certainty():
    e = stats.bootstrap_mean([1.0] * 12)
    assert e.low < 0.8
    assert stats.bootstrap_mean([]).n == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=25))
@settings(max_examples=60)
def test_paired_bootstrap_is_symmetric(pairs):
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    p, low, high = stats.paired_bootstrap(a, b, draws=300)
    q, low_swapped, high_swapped = stats.paired_bootstrap(b, a, draws=300)
    assert 0 < p <= 1
    assert p == pytest.approx(q)
    assert (low_swapped, high_swapped) == pytest.approx((-high, -low), abs=1e-9)


def test_paired_bootstrap_rejects_a_true_null_about_one_time_in_twenty():
    rng = np.random.default_rng(11)
    p = [stats.paired_bootstrap(d, np.zeros(50), draws=400, seed=i)[0] for i, d in enumerate(rng.normal(0, 0.2, (600, 50)))]
    assert 0.025 <= np.mean(np.array(p) < 0.05) <= 0.085


def test_paired_bootstrap_needs_more_than_a_few_pairs():
    assert stats.paired_bootstrap([1.0], [0.0])[0] == 1.0
    assert stats.paired_bootstrap([0.9, 0.9, 0.9], [0.1, 0.1, 0.1])[0] == 0.25
    assert stats.paired_bootstrap([0.9] * 30, [0.1] * 30)[0] < 0.001


def test_macro_f1_by_hand_and_for_invented_labels():
    gold, said = ["a", "a", "b", "b", "c"], ["a", "b", "b", "b", "nonsense"]
    e = stats.macro_f1(gold, said)
    assert e.value == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)
    assert e.low <= e.value <= e.high
    assert stats.macro_f1(gold, gold).value == 1.0
    assert stats.macro_f1([], []).n == 0
    with pytest.raises(ValueError, match="2 gold"):
        stats.macro_f1(["a", "b"], ["a"])


def test_smallest_detectable_difference_is_found_about_four_times_in_five():
    n, discordance = 200, 0.3
    d = stats.smallest_detectable_binary(n, discordance)
    assert d == pytest.approx(0.108, abs=0.003)
    rng = np.random.default_rng(4)
    tables = rng.multinomial(n, [(discordance + d) / 2, (discordance - d) / 2, 1 - discordance], size=800)
    power = np.mean([stats.mcnemar_exact(int(w), int(lost)) < 0.05 for w, lost, _ in tables])
    assert 0.70 <= power <= 0.85  # the exact test is a little conservative
    sd = 0.25
    graded = stats.smallest_detectable_graded(n, sd)
    p = [scipy_stats.ttest_1samp(x, 0).pvalue for x in rng.normal(graded, sd, (800, n))]
    assert 0.76 <= np.mean(np.array(p) < 0.05) <= 0.84


@given(st.integers(0, 5000), st.floats(0, 1))
def test_smallest_detectable_difference_shrinks_with_n(n, discordance):
    d = stats.smallest_detectable_binary(n, discordance)
    assert 0 < d <= 1
    assert stats.smallest_detectable_binary(4 * n + 1, discordance) <= d
    assert stats.smallest_detectable_graded(4 * n + 1, discordance) <= stats.smallest_detectable_graded(n, discordance)

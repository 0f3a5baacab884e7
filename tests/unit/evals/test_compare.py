"""From scores to metrics and paired comparisons."""
import numpy as np
import pytest

from feinschliff.core.ports import GraderFailure, Score
from feinschliff.evals import stats
from feinschliff.evals.compare import (
    Scored,
    best_arm,
    compare_arms,
    find,
    metrics,
    metrics_by_part,
    run_means,
)

PARTS = ["plain"] * 40 + ["composed"] * 20


def ones(k, n=60):
    return [Score(1.0)] * k + [Score(0.0)] * (n - k)


def scored(**more):
    fuzzy = {a: [Score(float(v)) for v in np.random.default_rng(i).beta(2 + i, 2, 60)] for i, a in enumerate(ARMS)}
    binary = dict(zip(ARMS, (ones(5), ones(20), ones(20), ones(50)), strict=True))
    return Scored({a: {"exact": binary[a], "chrf": fuzzy[a]} for a in ARMS}, PARTS, draws=400, **more)


ARMS = ("base", "prompt", "few_shot", "tuned")


def test_metrics_use_wilson_for_binary_and_bootstrap_for_graded_scores():
    s = scored()
    exact, chrf = metrics(s, "tuned")["exact"], metrics(s, "tuned")["chrf"]
    assert (exact.value, exact.n) == (50 / 60, 60)
    assert (exact.low, exact.high) == stats.wilson(50, 60)
    assert chrf.low < chrf.value < chrf.high
    parts = metrics_by_part(s, "tuned")
    assert parts["plain"]["exact"].value == 1.0
    assert (parts["composed"]["exact"].value, parts["composed"]["exact"].n) == (0.5, 20)


def test_best_arm_breaks_ties_by_input_tokens_then_order():
    s = scored()
    tokens = {"base": 10.0, "prompt": 300.0, "few_shot": 200.0, "tuned": 10.0}
    assert best_arm(s, grader="exact", part=None, input_tokens=tokens, tuned=False) == "few_shot"
    assert best_arm(s, grader="exact", part=None, input_tokens={}, tuned=False) == "prompt"
    assert best_arm(s, grader="exact", part="composed", input_tokens=tokens, tuned=False) == "base"
    assert best_arm(s, grader="exact", part=None, input_tokens=tokens, tuned=True) == "tuned"
    alone = Scored({"tuned": s.outcomes["tuned"]}, PARTS)
    assert best_arm(alone, grader="exact", part=None, input_tokens=tokens, tuned=False) is None


def test_every_arm_is_compared_with_the_baseline_and_holm_adjusted():
    found = compare_arms(scored(), "prompt")
    assert {(c.arm, c.grader, c.part) for c in found} == {
        (a, g, p) for a in ("base", "few_shot", "tuned") for g in ("exact", "chrf") for p in ("", "plain", "composed")
    }
    tuned = find(found, "tuned", "exact")
    assert (tuned.wins, tuned.losses, tuned.n, tuned.test) == (30, 0, 60, "mcnemar_exact")
    assert tuned.difference == pytest.approx(0.5)
    assert tuned.p_value == pytest.approx(2 * 0.5**30)
    assert tuned.p_adjusted == pytest.approx(3 * tuned.p_value)
    assert tuned.low < 0.5 < tuned.high
    same = find(found, "few_shot", "exact")
    assert (same.p_value, same.difference) == (1.0, 0.0)
    graded = find(found, "tuned", "chrf", "plain")
    assert (graded.test, graded.n) == ("paired_bootstrap", 40)
    assert compare_arms(scored(), None) == ()


def test_one_graded_arm_makes_every_comparison_of_that_grader_a_bootstrap():
    outcomes = {"base": {"g": ones(2, 8)}, "prompt": {"g": ones(3, 8)}, "tuned": {"g": [Score(0.5)] * 8}}
    tests = {c.test for c in compare_arms(Scored(outcomes, [""] * 8, draws=200), "base")}
    assert tests == {"paired_bootstrap"}


def test_a_failure_on_either_side_leaves_the_pair_out():
    failed = GraderFailure("database locked")
    outcomes = {"base": {"g": [failed, *ones(0, 9)]}, "tuned": {"g": [*ones(9, 9), failed]}}
    s = Scored(outcomes, [""] * 10)
    assert (metrics(s, "tuned")["g"].value, metrics(s, "tuned")["g"].n, metrics(s, "tuned")["g"].n_failed) == (1.0, 9, 1)
    (c,) = compare_arms(s, "base")
    assert (c.n, c.wins) == (8, 8)


def test_failures_only_say_that_nothing_is_known():
    failed = {"g": [GraderFailure("x")] * 5}
    s = Scored({"base": failed, "tuned": failed}, [""] * 5)
    m = metrics(s, "base")["g"]
    assert (m.n, m.n_failed, m.low, m.high) == (0, 5, 0.0, 1.0)
    (c,) = compare_arms(s, "base")
    assert (c.n, c.p_value, c.low, c.high, c.smallest_detectable) == (0, 1.0, -1.0, 1.0, 1.0)


def test_clusters_take_mcnemars_place():
    plain, clustered = scored(), scored(clusters=[str(i // 10) for i in range(60)])
    narrow, wide = find(compare_arms(plain, "base"), "prompt", "exact"), find(compare_arms(clustered, "base"), "prompt", "exact")
    assert (narrow.test, wide.test) == ("mcnemar_exact", "paired_bootstrap")
    assert wide.high - wide.low > narrow.high - narrow.low


def test_misaligned_scores_are_refused():
    with pytest.raises(ValueError, match="'base', grader 'g': 3 outcomes for 2"):
        Scored({"base": {"g": ones(1, 3)}}, ["", ""])
    with pytest.raises(ValueError, match="1 cluster ids"):
        Scored({}, ["", ""], clusters=["a"])


def repeated(*counts, **more):
    """One untuned arm with 20 of 60 right, and a tuned one trained once for each count."""
    runs = [{"exact": ones(k)} for k in counts]
    return Scored({"base": {"exact": ones(20)}, "tuned": runs[0]}, PARTS, repeats={"tuned": runs} if len(runs) > 1 else {}, **more)


def test_several_trainings_are_judged_by_their_mean():
    s = repeated(40, 44, 48)
    m = metrics(s, "tuned")["exact"]
    assert (m.value, m.n, m.n_runs) == (pytest.approx(44 / 60), 60, 3)
    assert run_means(s, "tuned", "exact") == tuple(pytest.approx(k / 60) for k in (40, 44, 48))
    (c,) = [c for c in compare_arms(s, "base") if not c.part]
    assert (c.test, c.n_runs, c.wins, c.losses) == ("crossed_t", 3, 28, 0)
    assert c.difference == pytest.approx(24 / 60)
    assert metrics(s, "base")["exact"].n_runs == 1
    (alone,) = [c for c in compare_arms(repeated(44), "base") if not c.part]
    assert (alone.test, alone.n_runs) == ("mcnemar_exact", 1)


def test_one_lucky_seed_of_three_does_not_make_a_gain():
    lucky = compare_arms(repeated(50, 20, 21), "base")[0]
    steady = compare_arms(repeated(30, 30, 31), "base")[0]
    assert lucky.difference == pytest.approx(steady.difference, abs=1e-9)
    assert lucky.p_value > 0.05 > steady.p_value
    assert lucky.low < 0 < steady.low


def test_a_grader_failure_in_any_training_leaves_the_question_out():
    broken = [GraderFailure("broke"), *ones(39, 59)]
    s = Scored(
        {"base": {"exact": ones(20)}, "tuned": {"exact": ones(40)}}, PARTS, repeats={"tuned": [{"exact": ones(40)}, {"exact": broken}]}
    )
    m = metrics(s, "tuned")["exact"]
    assert (m.n, m.n_failed) == (59, 1)
    assert compare_arms(s, "base")[0].n == 59


def test_lengths_of_repeats_are_checked_too():
    with pytest.raises(ValueError, match="59 outcomes for 60 examples"):
        Scored({"tuned": {"g": ones(1)}}, PARTS, repeats={"tuned": [{"g": ones(1)}, {"g": ones(1, 59)}]})

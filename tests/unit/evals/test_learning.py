"""A learning curve, read no further than its intervals reach."""
import pytest

from feinschliff.core.ports import Score
from feinschliff.core.study import Goal
from feinschliff.evals.compare import Scored
from feinschliff.evals.learning import Size, learning_curve

N = 200


def right(k, n=N):
    return {"exact": [Score(1.0)] * k + [Score(0.0)] * (n - k)}


def curve(*counts, margin=0.02, n=N, **scored):
    """`counts`: for each size, how many questions each of its runs gets right."""
    shares = [(i + 1) / len(counts) for i in range(len(counts))]
    sizes = [Size(share, round(1000 * share), [right(k, n) for k in runs], 0.5) for share, runs in zip(shares, counts, strict=True)]
    whole = Scored({"tuned": right(0, n)}, [""] * n, **scored)
    return learning_curve(sizes, "tuned", Goal(grader="exact", at_least=0.8, margin=margin), whole)


@pytest.mark.parametrize(
    ("counts", "margin", "reading", "words"),
    [
        ([[40], [80], [120]], 0.02, "rising", "still rose at the last step: from 667 to 1,000 examples, exact changed by +20.0 points"),
        ([[40], [120], [80]], 0.02, "falling", "Nothing here says that more data"),
        ([[40], [120], [121]], 0.05, "flat", "No gain above 5 points"),
        ([[40], [120], [123]], 0.005, "open", "neither shown nor ruled out"),
        ([[40], [50]], 0.02, "rising", "from 500 to 1,000"),
        ([[40, 44, 41], [80, 83, 84], [119, 121, 118]], 0.02, "rising", "3 seeds"),
        ([[40, 44, 41], [80, 83, 84], [81, 84, 85]], 0.05, "flat", "3 seeds"),
        # Two seeds that contradict each other: however many questions moved, nothing is shown.
        ([[40, 40], [80, 80], [120, 70]], 0.02, "open", "2 seeds"),
    ],
)
def test_readings(counts, margin, reading, words):
    found = curve(*counts, margin=margin)
    assert found.reading == reading
    assert words in found.sentence
    assert [p.metric.value for p in found.points] == [pytest.approx(sum(runs) / len(runs) / N) for runs in counts]
    assert all(p.metric.low <= p.metric.value <= p.metric.high for p in found.points)


def test_one_seeds_luck_is_named_and_the_last_step_is_the_only_test():
    found = curve([40], [80], [120])
    assert "one seed, whose luck the interval leaves out" in found.sentence
    assert found.last_step.p_adjusted == found.last_step.p_value
    assert (found.last_step.arm, found.last_step.baseline) == ("tuned on 1 of the data", "tuned on 0.666667 of the data")


def test_the_goals_part_counts():
    parts = ["a"] * 100 + ["b"] * 100
    sizes = [Size(s, int(100 * s), [right(k)], None) for s, k in ((0.5, 120), (1.0, 160))]
    whole = Scored({"tuned": right(0)}, parts)
    on_b = learning_curve(sizes, "tuned", Goal(grader="exact", at_least=0.8, part="b"), whole)
    assert [p.metric.value for p in on_b.points] == [pytest.approx(0.2), pytest.approx(0.6)]
    assert "on part `b`" in on_b.sentence
    on_a = learning_curve(sizes, "tuned", Goal(grader="exact", at_least=0.8, part="a"), whole)
    assert on_a.last_step.difference == 0

from itertools import pairwise

import pytest

from feinschliff.core.jobs import ResolvedHyperparameters
from feinschliff.train.schedule import learning_rate


def rates(schedule, warmup=0.2, total=10):
    h = ResolvedHyperparameters(
        n_epochs=1, batch_size=1, learning_rate=1.0, schedule=schedule, warmup_ratio=warmup, weight_decay=0, max_grad_norm=1
    )
    return [learning_rate(step, total, h) for step in range(1, total + 1)]


def test_warm_up_is_linear_and_reaches_the_rate():
    assert rates("constant") == [0.5] + [1.0] * 9


def test_linear_falls_evenly_and_never_reaches_zero():
    assert rates("linear") == pytest.approx([0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_cosine_falls_from_the_rate():
    values = rates("cosine")
    assert values[1] == values[2] == 1.0
    assert values[6] == pytest.approx(0.5)
    assert all(a > b > 0 for a, b in pairwise(values[2:]))


def test_no_warm_up_starts_at_the_full_rate():
    assert rates("cosine", warmup=0.0)[0] == 1.0


def test_a_single_step_learns():
    assert rates("cosine", total=1) == [1.0]

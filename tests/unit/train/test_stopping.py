import math

from hypothesis import given
from hypothesis import strategies as st

from feinschliff.core.jobs import EarlyStopping
from feinschliff.train.stopping import Watch

TWICE = EarlyStopping(patience=2, min_delta=0.1)


def watched(losses, stopping=TWICE):
    watch = Watch()
    for step, loss in enumerate(losses, 1):
        watch = watch.seen(step, loss, stopping)
    return watch


def test_patience_counts_validations_without_enough_progress():
    assert not watched([3.0, 2.0, 2.0]).is_over(TWICE)
    assert watched([3.0, 2.0, 2.0, 1.95]).is_over(TWICE)  # 0.05 lower is no progress
    assert not watched([3.0, 2.0, 2.0, 1.8]).is_over(TWICE)


def test_slow_progress_adds_up():
    assert not watched([3.0, 2.94, 2.88, 2.82]).is_over(TWICE)  # 0.12 in two validations


def test_the_best_step_is_the_lowest_loss_however_little_lower():
    watch = watched([3.0, 2.0, 1.95, 2.5])
    assert (watch.best_step, watch.best_loss) == (3, 1.95)


def test_without_early_stopping_it_is_never_over():
    watch = watched([1.0] * 50, None)
    assert not watch.is_over(None)
    assert watch.best_step == 1  # the first of equals


@given(st.lists(st.floats(0, 10), max_size=20))
def test_the_best_is_the_minimum(losses):
    watch = watched(losses)
    assert watch.best_loss == min(losses, default=math.inf)
    assert watch.best_step == (losses.index(min(losses)) + 1 if losses else None)

"""A training file in tokens, before and after they have been counted."""
import pytest

from feinschliff.catalog.workload import Counted, FileSizes, at_least, auto_epochs, work_of
from feinschliff.core.finetune import TuningHyperparameters

AUTO = TuningHyperparameters()
COUNTED = Counted(n_examples=1000, tokens=200_000, trained=80_000, longest=900)


def test_a_file_nobody_has_looked_at_is_one_short_example():
    assert work_of(None, AUTO).model_dump() == {"longest": 64, "step": 64, "per_epoch": 0, "trained": 0, "epochs": 1}


def test_what_is_left_to_auto_and_what_is_given():
    assert work_of(COUNTED, AUTO).model_dump() == {"longest": 900, "step": 3200, "per_epoch": 200_000, "trained": 80_000, "epochs": 3}
    given = work_of(COUNTED, TuningHyperparameters(n_epochs=7, batch_size=2))
    assert (given.epochs, given.step) == (7, 900)  # a step holds the longest example


@pytest.mark.parametrize(("n", "epochs"), [(0, 25), (10, 10), (34, 3), (8400, 2), (30_000, 1)])
def test_epochs_follow_the_number_of_examples(n, epochs):
    assert auto_epochs(n) == epochs


def test_a_count_by_characters_is_below_that_of_real_tokenizers():
    counted = at_least(FileSizes(n_examples=2, characters=6000, longest=4200))
    assert (counted.tokens, counted.longest, counted.exact) == (1000, 700, False)

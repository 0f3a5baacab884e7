"""Which trainings a study makes, where they lie, and which of them is put to use."""
import pytest
from pydantic import ValidationError

from feinschliff.app.study_folder import Layout
from feinschliff.app.study_trainings import (
    Trained,
    answers_of,
    asked_of,
    chosen,
    folder_of,
    planned,
    valid_loss,
)
from feinschliff.core.jobs import Finished, Validation
from feinschliff.core.study import Data, Goal, GraderSpec, Prompt, Study, Training


def make(**training):
    return Study(
        name="s", task="t", why="w", arms=("base", "tuned", "tuned+prompt"), data=Data(files=("d",)), prompt=Prompt(system="p"),
        graders=(GraderSpec(name="g", type="exact"),), goal=Goal(grader="g", at_least=0.5), training=Training(**training),
    )  # fmt: skip


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path)


def test_one_training_lies_where_it_always_did(layout):
    (only,) = planned(make(seed=5, learning_curve=()), layout)
    assert (only.job_id, only.seed, only.first) == ("tuned", 5, True)
    assert answers_of(layout, only, "tuned").chunk("test", 0) == layout.arm("tuned").chunk("test", 0)


def test_seeds_and_shares_lie_in_the_first_ones_folder(layout):
    study = make(seed=5, seeds=2, learning_curve=(0.25, 0.5, 1.0))
    found = planned(study, layout)
    assert [t.job_id for t in found] == [
        "tuned", "tuned/more/seed-6", "tuned/more/share-0.25-seed-5", "tuned/more/share-0.25-seed-6",
        "tuned/more/share-0.5-seed-5", "tuned/more/share-0.5-seed-6",
    ]  # fmt: skip
    assert [t.first for t in found] == [True, *[False] * 5]
    assert asked_of(study, found[1]) == ("tuned", "tuned+prompt")
    assert asked_of(study, found[2]) == ("tuned",)
    for training in found[1:]:
        assert answers_of(layout, training, "tuned").chunk("test", 0).is_relative_to(layout.run)
        assert folder_of(study, layout, training, "base").chunk("test", 0) == layout.arm("base").chunk("test", 0)
    trained = Trained(found, {}, found[1])
    assert trained.whole == found[:2]
    assert list(trained.sizes()) == [0.25, 0.5, 1.0]
    assert trained.sizes()[0.5] == found[4:]


@pytest.mark.parametrize("curve", [(0.5, 0.25), (0.5, 0.5), (1.0,), (0.0, 1.0), (0.5, 1.5)])
def test_curves_that_are_none(curve):
    with pytest.raises(ValidationError):
        Training(learning_curve=curve)


def validation(step, loss):
    return Validation(step=step, valid_loss=loss, valid_token_accuracy=0.5, n_tokens=1)


FINISHED = Finished(step=3, trained_tokens=3, path="model", seconds=9.0, peak_memory_bytes=1, best_step=1, best_valid_loss=0.1)


def test_the_lowest_validation_loss_is_chosen_of_those_on_all_data(layout):
    study = make(seeds=3, learning_curve=(0.5,))
    trainings = planned(study, layout)
    losses = [0.4, 0.2, 0.3, 0.01, 0.02, 0.03]  # a smaller share is never chosen
    events = {t.job_id: [validation(1, 0.1), validation(3, loss), FINISHED] for t, loss in zip(trainings, losses, strict=True)}
    assert chosen(study, trainings, events).seed == 1
    equal = {t.job_id: [validation(3, 0.2)] for t in trainings}
    assert chosen(study, trainings, equal).first
    assert chosen(study, trainings, {t.job_id: [] for t in trainings}).first


def test_the_loss_is_the_kept_models():
    events = [validation(1, 0.1), validation(3, 0.3), FINISHED]
    assert valid_loss(make(), events) == 0.3
    assert valid_loss(make(keep_best=True), events) == 0.1
    assert valid_loss(make(), [FINISHED]) is None

"""Early stopping and the best model, also where the run is killed on the way."""
import signal
import time

import pytest
from runs import contrary, make_run, result, steps, write_chats

from feinschliff.compute import process
from feinschliff.core.errors import TrainingFailed
from feinschliff.core.jobs import Checkpoint, EarlyStopping, Finished, Hyperparameters, Validation
from feinschliff.train.events import EventLog
from feinschliff.train.loop import _Run, train

CONTROL = {
    "validation_file": "valid.jsonl", "validate_every_steps": 2, "early_stopping": EarlyStopping(patience=3), "keep_best": True,
    "hyperparameters": Hyperparameters(n_epochs=20, batch_size=4, learning_rate=0.1, schedule="constant"), "save_every_steps": 3,
}  # fmt: skip


def make(folder, model, **changes):
    run, spec = make_run(folder, model, **CONTROL | changes)
    write_chats(run / "valid.jsonl", contrary())
    return run, spec


def events(run):
    return EventLog(run / "events.jsonl").read()


def validations(run):
    return {e.step: e.valid_loss for e in events(run) if isinstance(e, Validation)}


@pytest.fixture(scope="module")
def whole(tiny_model, tmp_path_factory):
    run, spec = make(tmp_path_factory.mktemp("early") / "whole", tiny_model)
    train(run, spec)
    return run


def test_training_ends_when_the_validation_loss_has_not_fallen_for_long_enough(whole):
    losses = validations(whole)
    finished = events(whole)[-1]
    assert isinstance(finished, Finished)
    assert finished.stopped_early
    assert finished.step == max(losses) == max(s.step for s in steps(whole)) < 60
    assert list(losses) == list(range(2, finished.step + 1, 2))
    assert finished.best_valid_loss == min(losses.values()) == losses[finished.best_step]
    assert 2 < finished.best_step == finished.step - 6  # it fell, then three validations brought nothing


def test_the_model_is_the_one_of_the_best_step(whole, tiny_model, tmp_path):
    best = events(whole)[-1].best_step
    last, spec = make(tmp_path / "last", tiny_model, keep_best=False)
    train(last, spec)
    assert events(last)[-1].best_step == best
    assert result(last) != result(whole)
    watched, spec = make(tmp_path / "watched", tiny_model, save_every_steps=10**6, keep_best=False, validate_every_steps=best)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Run, "_is_over", property(lambda self: self.saved.step == best))
        train(watched, spec)
    assert result(whole) == result(watched)
    assert not (whole / "best").exists()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", ["validated", "best written", "saved", "result written"])
@pytest.mark.parametrize("nth", [1, 4])
def test_killed_at_the_worst_moments_it_ends_with_the_same_model(whole, tiny_model, tmp_path, monkeypatch, at, nth):
    cut, spec = make(tmp_path / "cut", tiny_model)
    owner, name = {
        "validated": (_Run, "_validate"), "best written": (_Run, "_write_model"), "saved": (type(_states(cut)), "save"),
        "result written": (_Run, "_finish"),
    }[at]  # fmt: skip
    calls = 0

    def dying(self, *args):
        nonlocal calls
        real(self, *args)
        calls += 1
        if calls == nth:
            raise Killed

    real = getattr(owner, name)
    if at == "result written":
        monkeypatch.setattr(EventLog, "append", _die_on_finished(EventLog.append))
    else:
        monkeypatch.setattr(owner, name, dying)
    with pytest.raises(Killed):
        train(cut, spec)
    monkeypatch.undo()
    train(cut, spec)
    _same(cut, whole)


def _states(run):
    from feinschliff.train.state import StateFolder

    return StateFolder(run / "state")


def _die_on_finished(append):
    def dying(self, event):
        if isinstance(event, Finished):
            raise Killed
        append(self, event)

    return dying


def _same(cut, whole):
    assert result(cut) == result(whole)
    assert validations(cut) == validations(whole)
    ends = [events(run)[-1] for run in (cut, whole)]
    assert [(e.step, e.best_step, e.best_valid_loss, e.stopped_early, e.trained_tokens) for e in ends[:1]] == [
        (e.step, e.best_step, e.best_valid_loss, e.stopped_early, e.trained_tokens) for e in ends[1:]
    ]
    assert not (cut / "best").exists()


def test_killed_with_signal_9_it_ends_with_the_same_model(whole, tiny_model, tmp_path):
    cut, _ = make(tmp_path / "cut", tiny_model)
    child = process.start("feinschliff.train", [str(cut)], cut / "log.txt")
    while (len(steps(cut)) if (cut / "events.jsonl").exists() else 0) < 9 and child.poll() is None:
        time.sleep(0.0005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL  # it was still running
    train(cut, make(cut, tiny_model)[1])
    _same(cut, whole)


def test_without_validation_examples_neither_is_possible(tiny_model, tmp_path):
    run, spec = make_run(tmp_path / "run", tiny_model, keep_best=True)
    with pytest.raises(TrainingFailed, match="no validation examples"):
        train(run, spec)


def test_validation_is_once_an_epoch_and_at_the_end_unless_asked_otherwise(tiny_model, tmp_path):
    plain = {"early_stopping": None, "keep_best": False, "hyperparameters": Hyperparameters(n_epochs=2, batch_size=4)}
    by_epoch, spec = make(tmp_path / "epoch", tiny_model, validate_every_steps=None, **plain)
    train(by_epoch, spec)
    by_steps, spec = make(tmp_path / "steps", tiny_model, validate_every_steps=4, **plain)
    train(by_steps, spec)
    assert list(validations(by_epoch)) == [3, 6]
    assert list(validations(by_steps)) == [4, 6]
    assert result(by_epoch) == result(by_steps)
    assert [e.step for e in events(by_steps) if isinstance(e, Checkpoint)] == [3]
    finished = events(by_steps)[-1]
    assert not finished.stopped_early
    assert finished.best_valid_loss == min(validations(by_steps).values())

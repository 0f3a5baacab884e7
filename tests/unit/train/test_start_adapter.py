"""A run that begins with an earlier run's adapter: a new optimizer and schedule over the weights that the first ended with."""
import pytest
from pydantic import ValidationError
from runs import make_run, result, steps

from feinschliff.core.errors import BadStudy
from feinschliff.core.jobs import Checkpoint, Full, Hyperparameters, Lora, TrainSpec, Validation
from feinschliff.train.events import EventLog
from feinschliff.train.loop import train

WHOLE = Hyperparameters(n_epochs=6, batch_size=12, learning_rate=0.02)  # all 12 examples in a step: its loss is the data's


def told(folder, kind):
    return [e for e in EventLog(folder / "events.jsonl").read() if isinstance(e, kind)]


@pytest.mark.parametrize("method", [Lora(rank=4, alpha=8), Lora(rank=2, alpha=8, dora=True), Lora(kind="qlora", rank=2, alpha=8)])
def test_the_loss_begins_where_the_first_run_ended(tiny_model, tmp_path, method):
    first, spec = make_run(tmp_path / "first", tiny_model, hyperparameters=WHOLE, validation_file="train.jsonl", method=method)
    train(first, spec)
    ended = told(first, Validation)[-1].valid_loss
    second, spec = make_run(
        tmp_path / "second", tiny_model, hyperparameters=WHOLE, method=method, start_adapter=str(first / "model"), seed=5
    )
    train(second, spec)
    losses = [s.train_loss for s in steps(second)]
    assert losses[0] == pytest.approx(ended, rel=1e-5)
    assert losses[0] < 0.9 * steps(first)[0].train_loss
    assert losses[-1] < losses[0]
    assert [s.step for s in steps(second)] == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_is_a_start_too_and_a_killed_run_goes_on_from_its_own_state(tiny_model, tmp_path, monkeypatch):
    first, spec = make_run(tmp_path / "first", tiny_model)
    train(first, spec)
    start = str(first / told(first, Checkpoint)[0].path)
    whole, cut = (make_run(tmp_path / name, tiny_model, start_adapter=start, seed=3) for name in ("whole", "cut"))
    train(*whole)
    from feinschliff.train import loop

    class Killed(BaseException):
        pass

    def die(self, step, total, save=loop._Run._save_if_due):
        save(self, step, total)
        if step == 5:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "_save_if_due", die)
        with pytest.raises(Killed):
            train(*cut)
    train(*cut)
    assert result(cut[0]) == result(whole[0])


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Lora(rank=2, alpha=8), "another form"),
        (Lora(rank=4, alpha=16), "another form"),
        (Lora(rank=4, alpha=8, dora=True), "another form"),
        (Lora(rank=4, alpha=8, targets=("q_proj",)), "other layers"),
    ],
)
def test_an_adapter_of_another_form_is_refused(tiny_model, tmp_path, method, said):
    short = Hyperparameters(n_epochs=1, batch_size=12, learning_rate=0.02)
    first, spec = make_run(tmp_path / "first", tiny_model, hyperparameters=short)
    train(first, spec)
    with pytest.raises(BadStudy, match=said):
        train(*make_run(tmp_path / "second", tiny_model, method=method, start_adapter=str(first / "model")))


def test_full_fine_tuning_has_no_adapter_to_start_from():
    with pytest.raises(ValidationError, match="start_adapter is for LoRA"):
        TrainSpec(model="m", train_files=("t",), method=Full(), start_adapter="a")

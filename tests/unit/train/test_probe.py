import pytest
import torch
from runs import make_run, result, steps

from feinschliff.core.jobs import Hyperparameters, LrProbe, Started
from feinschliff.train import loop
from feinschliff.train.events import EventLog
from feinschliff.train.loop import _Run, train
from feinschliff.train.probe import FALL, choose, smoothed

SHORT = Hyperparameters(n_epochs=2, batch_size=4, learning_rate=1e-3)


def events(run, kind):
    return [e for e in EventLog(run / "events.jsonl").read() if isinstance(e, kind)]


def curve(losses, first=1e-5, factor=1.5):
    return [(first * factor**i, loss) for i, loss in enumerate(losses)]


def test_a_tenth_of_the_rate_with_the_lowest_loss():
    falls_and_rises = curve([5.0] * 5 + [5.0 - 0.3 * i for i in range(10)] + [9.0] * 5)
    lowest = falls_and_rises[14][0]
    assert choose(falls_and_rises, 1.0).learning_rate == pytest.approx(lowest / 10, rel=1e-2)


@pytest.mark.parametrize("losses", [[2.0, 2.5, 3.0], [2.0, 2.0 * FALL + 0.01], [2.0], []])
def test_a_loss_that_does_not_fall_changes_nothing(losses):
    assert choose(curve(losses), 0.123).learning_rate == 0.123


def test_smoothing_keeps_a_constant_and_starts_without_bias():
    assert smoothed([3.0] * 4) == pytest.approx([3.0] * 4)
    assert smoothed([4.0, 4.0, 9.0])[2] == pytest.approx((4 * 0.8**2 + 4 * 0.8 + 9) / (0.8**2 + 0.8 + 1))


@pytest.fixture(scope="module")
def probed(tiny_model, tmp_path_factory):
    run, spec = make_run(tmp_path_factory.mktemp("probe") / "run", tiny_model, hyperparameters=SHORT, lr_probe=True)
    train(run, spec)
    return run


def test_the_chosen_rate_is_used_and_everything_else_is_as_without_the_probe(probed, tiny_model, tmp_path):
    (told,) = events(probed, LrProbe)
    assert told.learning_rate == steps(probed)[0].learning_rate  # the warm-up is one step
    rates = [rate for rate, _ in told.curve]
    assert rates[0] == pytest.approx(1e-5)
    assert rates == sorted(rates)
    assert told.learning_rate != 1e-3
    given, spec = make_run(
        tmp_path / "given", tiny_model, hyperparameters=SHORT.model_copy(update={"learning_rate": told.learning_rate})
    )
    train(given, spec)
    assert result(given) == result(probed)


def test_it_is_a_function_of_the_seed_and_is_not_repeated(probed, tiny_model, tmp_path, monkeypatch):
    run, spec = make_run(tmp_path / "run", tiny_model, hyperparameters=SHORT, lr_probe=True)

    def die(self, step, total):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_Run, "_save_if_due", die)
        with pytest.raises(KeyboardInterrupt):
            train(run, spec)

    def never(*_):
        raise AssertionError("probed again")

    monkeypatch.setattr(loop, "probe", never)
    train(run, spec)
    (told,), (other,) = events(run, LrProbe), events(probed, LrProbe)
    assert (told.curve, told.learning_rate) == (other.curve, other.learning_rate)
    assert result(run) == result(probed)
    again = events(run, Started)[-1].hyperparameters
    assert again.learning_rate == told.learning_rate
    assert "probe" in again.reasons[-1]


def test_a_range_that_ends_in_infinity_is_survived(tiny_model, tmp_path):
    wild = SHORT.model_copy(update={"learning_rate": 1e30, "n_epochs": 1, "max_grad_norm": 1e9})
    run, spec = make_run(tmp_path / "run", tiny_model, hyperparameters=wild, lr_probe=True)
    state = torch.get_rng_state()
    with pytest.raises(Exception, match="not finite"):  # the rate stays what it was, and training fails with it, not the probe
        train(run, spec)
    (told,) = events(run, LrProbe)
    assert told.learning_rate == 1e30
    assert all(loss < float("inf") for _, loss in told.curve)
    torch.set_rng_state(state)

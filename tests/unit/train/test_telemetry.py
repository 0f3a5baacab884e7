from runs import make_run, steps

from feinschliff.core.jobs import Full, ResolvedHyperparameters, Started
from feinschliff.train.events import EventLog
from feinschliff.train.loop import train
from feinschliff.train.shape import Linear, ModelShape
from feinschliff.train.step import StepResult
from feinschliff.train.telemetry import Telemetry

H = ResolvedHyperparameters(
    n_epochs=1, batch_size=1, learning_rate=0.5, schedule="constant", warmup_ratio=0, weight_decay=0, max_grad_norm=1
)


def test_rates_are_per_second_and_by_the_machine():
    shape = ModelShape((Linear("up_proj", 100, 10),), 10, 50, 0, "llama")
    telemetry = Telemetry(shape, Full(), 1e6, H, total_steps=10, per_epoch=5)
    result = StepResult(loss=1.0, accuracy=0.5, grad_norm=2.0, trained_tokens=20, logical_tokens=100, computed_tokens=40)
    told = telemetry.event(5, result, seconds=2.0, eta_s=10.0, memory_bytes=7)
    assert (told.logical_tokens_per_s, told.computed_tokens_per_s, told.trained_tokens_per_s) == (50, 20, 10)
    assert told.flops_per_s == (6 * 1000 * 40 + 6 * 500 * 20) / 2
    assert told.speed_fraction == told.flops_per_s / 1e6
    assert (told.epoch, told.learning_rate, told.memory_bytes) == (1.0, 0.5, 7)


def test_every_step_of_a_run_tells_its_speed_and_the_start_the_machine(tiny_model, tmp_path):
    run, spec = make_run(tmp_path / "run", tiny_model, precision="auto")
    train(run, spec)
    started = EventLog(run / "events.jsonl").read()[0]
    assert isinstance(started, Started)
    assert started.speed is not None
    assert (started.precision, "parameters" in started.precision_reason) == ("fp32", True)
    assert started.hyperparameters is not None
    assert started.hyperparameters.learning_rate == spec.hyperparameters.learning_rate
    for step in steps(run):
        assert step.speed_fraction == step.flops_per_s / started.speed.fp32 > 0
        assert step.memory_bytes > 50 << 20
        assert step.trained_tokens_per_s < step.computed_tokens_per_s < step.logical_tokens_per_s

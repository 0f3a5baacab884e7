"""`python -m feinschliff.train` as a child process, killed and started again."""
import random
import signal
import time

from runs import make_run, result, steps

from feinschliff.compute import process
from feinschliff.core.jobs import Finished, Hyperparameters, Started
from feinschliff.train.device import chosen
from feinschliff.train.events import EventLog
from feinschliff.train.loop import train
from on_devices import each_device


def start(run):
    return process.start("feinschliff.train", [str(run)], run / "log.txt")


def events(run):
    return EventLog(run / "events.jsonl").read()


def n_lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


@each_device
def test_kill_9_at_random_moments_gives_the_same_weights(device, wide_model, tmp_path):
    changes = {"device": device, "hyperparameters": Hyperparameters(n_epochs=14, batch_size=4, learning_rate=0.01), "save_every_steps": 5}
    whole, spec = make_run(tmp_path / "whole", wide_model, **changes)
    cut, _ = make_run(tmp_path / "cut", wide_model, **changes)
    train(whole, spec, device=chosen(device))
    chance = random.Random(3)
    for _ in range(2):
        child = start(cut)
        wanted = n_lines(cut / "events.jsonl") + chance.randint(4, 16)
        while n_lines(cut / "events.jsonl") < wanted and child.poll() is None:
            time.sleep(0.0005)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL  # it was still running
        with (cut / "events.jsonl").open("ab") as file:
            file.write(b'{"kind":"step","st')  # what a kill in the middle of a line leaves
    assert start(cut).wait(120) == 0, process.last_lines(cut / "log.txt")
    assert result(cut) == result(whole)
    losses = {s.step: s.train_loss for s in steps(cut)}
    assert losses == {s.step: s.train_loss for s in steps(whole)}
    assert list(losses) == sorted(losses)
    assert events(cut)[-1].kind == "finished"
    assert [e.first_step > 0 for e in events(cut) if isinstance(e, Started)][-1]


def test_two_processes_on_one_folder_train_once(tiny_model, tmp_path):
    run, _ = make_run(tmp_path / "run", tiny_model)
    children = [start(run), start(run)]
    assert [c.wait(120) for c in children] == [0, 0]
    assert [s.step for s in steps(run)] == list(range(1, 13))
    assert sum(isinstance(e, Finished) for e in events(run)) == 1
    alone, spec = make_run(tmp_path / "alone", tiny_model)
    train(alone, spec)
    assert [s.train_loss for s in steps(alone)] == [s.train_loss for s in steps(run)]

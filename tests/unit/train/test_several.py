"""Several runs in one process, over one copy of the base: each ends as it would have alone."""
import itertools
import subprocess
import sys
import time

import pytest
import torch
from runs import make_run, result, steps

from feinschliff.core.jobs import Failed, Full, Hyperparameters, Lora
from feinschliff.train.__main__ import main
from feinschliff.train.device import ON_CPU
from feinschliff.train.events import EventLog
from feinschliff.train.loop import Bases, train
from feinschliff.train.loop import steps as steps_of


@pytest.fixture
def specs(tiny_model, tmp_path):
    """Runs that differ in seed, rank, targets, rate and kind; alone, in one folder each, and together, in another."""
    changes = {
        "plain": {},
        "seed": {"seed": 7, "method": Lora(rank=4, alpha=8, targets=("q_proj", "down_proj"))},
        "dora": {"method": Lora(rank=2, alpha=8, dora=True)},
        "qlora": {"method": Lora(kind="qlora", rank=2, alpha=8)},
        "rank": {"method": Lora(rank=2, alpha=8), "hyperparameters": Hyperparameters(n_epochs=2, batch_size=3, learning_rate=0.01)},
    }
    return {name: [make_run(tmp_path / kind / name, tiny_model, **c) for kind in ("alone", "together")] for name, c in changes.items()}


def test_each_ends_as_it_would_have_alone(specs):
    for (alone, spec), _ in specs.values():
        train(alone, spec)
    assert main([together for _, (together, _) in specs.values()]) == 0
    for (alone, _), (together, _) in specs.values():
        assert result(together) == result(alone)
        assert [s.train_loss for s in steps(together)] == [s.train_loss for s in steps(alone)]


def test_time_in_which_others_have_their_turn_is_not_a_runs_own(specs, monkeypatch):
    clock = itertools.count()
    others = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: next(clock) + sum(others))
    _, (together, spec) = specs["plain"]
    for _ in steps_of(together, spec):
        others.append(1e6)
    finished = EventLog(together / "events.jsonl", writes=False).read()[-1]
    assert 0 < finished.seconds < 1e6


def test_killed_together_and_resumed_together(specs):
    for (alone, spec), _ in specs.values():
        train(alone, spec)
    bases = Bases()
    running = [steps_of(folder, spec, bases=bases) for _, (folder, spec) in specs.values()]
    for _ in range(3):
        for run in running:
            next(run)
    for run in running:
        run.close()
    assert main([together for _, (together, _) in specs.values()]) == 0
    for (alone, _), (together, _) in specs.values():
        assert result(together) == result(alone)


def test_adapters_share_the_base_and_whole_models_do_not(specs, tiny_model):
    bases = Bases()
    made = [bases.make(spec, tiny_model, torch.float32, "blas", ON_CPU, to_shard=False) for _, (_, spec) in specs.values()]
    decoders = {(m.spec.method.kind, id(m.decoder)) for m in made}
    assert sorted(kind for kind, _ in decoders) == ["lora", "qlora"]  # one each
    _, (_, spec) = specs["plain"]
    whole = bases.make(spec.model_copy(update={"method": Full()}), tiny_model, torch.float32, "blas", ON_CPU, to_shard=False)
    assert id(whole.decoder) not in {i for _, i in decoders}


def test_one_that_fails_leaves_the_others_be(specs):
    (alone, spec), (together, _) = specs["plain"]
    train(alone, spec)
    _, (broken, broken_spec) = specs["seed"]
    (broken / "spec.json").write_text(broken_spec.model_copy(update={"train_files": ("missing.jsonl",)}).model_dump_json())
    assert main([broken, together]) == 1
    assert result(together) == result(alone)
    assert isinstance(EventLog(broken / "events.jsonl", writes=False).read()[-1], Failed)


@pytest.mark.parametrize(("names", "said"), [([], "Name the run folders"), (["nowhere"], "nowhere is not a run folder")])
def test_usage(names, said, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "feinschliff.train", *names], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr

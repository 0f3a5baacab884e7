"""Two real ranks with gloo against one process."""
import time
from pathlib import Path

import pytest
import torch
from exact_steps import CASES, take
from pydantic import ValidationError
from ranks import kill_rank, torchrun
from runs import make_run, result, steps
from safetensors.torch import load_file

from feinschliff.core.jobs import (
    Checkpoint,
    Failed,
    Finished,
    Full,
    Hyperparameters,
    Started,
    TrainSpec,
    Validation,
)
from feinschliff.train.events import EventLog
from feinschliff.train.loop import train
from feinschliff.train.parallel import ALONE, RankLost, Together
from tiny import make_tiny_model

# 12 examples are a step of 11 and a step of one, where a rank has nothing to compute.
CHANGES = {
    "hyperparameters": Hyperparameters(n_epochs=30, batch_size=11, learning_rate=2e-3),
    "validation_file": "train.jsonl", "save_every_steps": 5,
}  # fmt: skip


def events(run):
    return EventLog(run / "events.jsonl", writes=False).read()


@pytest.fixture(scope="module")
def two_ranks(tiny_model, tmp_path_factory):
    """A whole run of the program in two ranks."""
    run, _ = make_run(tmp_path_factory.mktemp("ranks") / "run", tiny_model, **CHANGES)
    assert torchrun(run / "log.txt", "-m", "feinschliff.train", str(run)).wait(200) == 0, (run / "log.txt").read_text()
    return run


@pytest.fixture(scope="module")
def exact(tiny_model, tmp_path_factory):
    """The steps of exact_steps.py: alone, in the first rank and in the second."""
    folder = tmp_path_factory.mktemp("exact")
    models = [tiny_model, make_tiny_model(folder / "gemma", "gemma2")]
    script = torchrun(folder / "log.txt", str(Path(__file__).with_name("exact_steps.py")), str(folder), *map(str, models))
    alone = {case: take(case, models, folder / "alone", ALONE) for case in CASES}
    assert script.wait(200) == 0, (folder / "log.txt").read_text()
    return alone, *(torch.load(folder / f"rank-{r}.pt") for r in (0, 1))


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_make_the_steps_of_one_process_in_float64(exact, case):
    """Adapters with summed gradients; all weights sharded, with a head of its own and with a tied one."""
    alone, first, second = (told[case] for told in exact)
    # transformers' own norms, used in full fine-tuning, compute in float32; Adam magnifies that where a gradient is tiny.
    exactness = 1e-9 if case == "lora" else 1e-5
    for mine, wanted in zip(first["steps"], alone["steps"], strict=True):
        assert mine == pytest.approx(wanted, rel=exactness)
    assert first["valid"] == pytest.approx(alone["valid"], rel=exactness)
    assert (first["steps"], first["valid"]) == (second["steps"], second["valid"])
    assert set(first["weights"]) == set(alone["weights"])
    for name, wanted in alone["weights"].items():
        torch.testing.assert_close(first["weights"][name], wanted, rtol=exactness, atol=exactness)
        assert torch.equal(first["weights"][name], second["weights"][name])


def test_each_rank_holds_half_of_what_is_sharded(exact):
    alone, first, second = exact
    assert first["lora"]["held"] == second["lora"]["held"] == alone["lora"]["held"]
    for case in ("full", "tied"):
        assert first[case]["held"] + second[case]["held"] == alone[case]["held"]
        assert first[case]["held"] == pytest.approx(second[case]["held"], rel=0.02)


def test_an_adapter_is_not_sharded(tmp_path, tiny_model):
    _, spec = make_run(tmp_path, tiny_model)
    with pytest.raises(ValidationError, match="full fine-tuning"):
        TrainSpec.model_validate({**spec.model_dump(), "sharding": "full"})


@pytest.mark.long
def test_a_sharded_run_of_the_program_ends_with_the_model_of_one_process(tiny_model, tmp_path):
    changes = {"method": Full(), "hyperparameters": Hyperparameters(n_epochs=2, batch_size=11, learning_rate=1e-3)}
    run, _ = make_run(tmp_path / "run", tiny_model, sharding="full", **changes)
    alone, spec = make_run(tmp_path / "alone", tiny_model, **changes)
    train(alone, spec)
    assert torchrun(run / "log.txt", "-m", "feinschliff.train", str(run)).wait(200) == 0, (run / "log.txt").read_text()
    assert [s.train_loss for s in steps(run)] == pytest.approx([s.train_loss for s in steps(alone)], rel=1e-4)
    weights = load_file(run / "model" / "model.safetensors")
    wanted = load_file(alone / "model" / "model.safetensors")
    assert set(weights) == set(wanted)
    for name, tensor in wanted.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-3)


@pytest.mark.long
def test_the_program_in_two_ranks_tells_what_one_process_tells(two_ranks, tiny_model, tmp_path):
    alone, spec = make_run(tmp_path / "alone", tiny_model, **CHANGES)
    train(alone, spec)
    assert [e.kind for e in events(two_ranks)] == [e.kind for e in events(alone)]
    for mine, wanted in zip(steps(two_ranks), steps(alone), strict=True):
        assert mine.train_loss == pytest.approx(wanted.train_loss, rel=1e-3)
        assert mine.grad_norm == pytest.approx(wanted.grad_norm, rel=1e-2)
        assert (mine.trained_tokens, mine.logical_tokens) == (wanted.trained_tokens, wanted.logical_tokens)
    for mine, wanted in zip(events(two_ranks), events(alone), strict=True):
        if isinstance(wanted, Validation):
            assert mine.valid_loss == pytest.approx(wanted.valid_loss, rel=1e-3)
            assert mine.n_tokens == wanted.n_tokens
    weights = load_file(two_ranks / "model" / "adapter_model.safetensors")
    for name, wanted in load_file(alone / "model" / "adapter_model.safetensors").items():
        torch.testing.assert_close(weights[name], wanted, rtol=1e-2, atol=1e-3)


@pytest.mark.long
def test_only_the_first_rank_writes(two_ranks):
    told = events(two_ranks)
    assert [s.step for s in steps(two_ranks)] == list(range(1, 61))
    assert sum(isinstance(e, Started) for e in told) == sum(isinstance(e, Finished) for e in told) == 1
    assert all((two_ranks / e.path / "adapter_model.safetensors").is_file() for e in told if isinstance(e, Checkpoint))
    assert [p.name for p in (two_ranks / "state").iterdir()] == ["step-60.pt"]


@pytest.mark.long
def test_kill_9_of_one_rank_ends_the_run_and_a_second_start_goes_on_to_the_same_bits(two_ranks, tiny_model, tmp_path):
    cut, _ = make_run(tmp_path / "cut", tiny_model, **CHANGES)
    launcher = torchrun(cut / "log.txt", "-m", "feinschliff.train", str(cut))
    while len(steps(cut) if (cut / "events.jsonl").exists() else []) < 12 and launcher.poll() is None:
        time.sleep(0.002)
    kill_rank(launcher.pid, 1)
    assert launcher.wait(100) != 0
    failed = events(cut)[-1]
    assert isinstance(failed, Failed)
    assert failed.code == "rank_lost"
    assert "torchrun command goes on" in failed.hint
    assert torchrun(cut / "log.txt", "-m", "feinschliff.train", str(cut)).wait(200) == 0, (cut / "log.txt").read_text()
    assert result(cut) == result(two_ranks)
    assert {s.step: s.train_loss for s in steps(cut)} == {s.step: s.train_loss for s in steps(two_ranks)}
    assert [e.first_step > 0 for e in events(cut) if isinstance(e, Started)] == [False, True]


def test_a_rank_alone_changes_nothing():
    gradient = torch.ones(3)
    parameter = torch.zeros(3)
    parameter.grad = gradient
    ALONE.sum_gradients([parameter])
    assert parameter.grad is gradient
    assert (ALONE.total(1, 2.5), ALONE.agreed("fp32"), ALONE.first) == ((1, 2.5), "fp32", True)
    assert [Together(r, 2).first for r in (0, 1)] == [True, False]
    assert RankLost(1, "x").hint

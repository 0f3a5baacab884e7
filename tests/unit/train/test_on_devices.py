"""Steps and whole runs on each kind of device: near to float32, and the same bits twice."""

import pytest
import torch
from ranks import torchrun
from runs import make_run, result, small_examples, steps

from feinschliff.core.jobs import Lora, Started
from feinschliff.train.device import chosen
from feinschliff.train.events import EventLog
from feinschliff.train.loop import train
from feinschliff.train.model import Trainable
from feinschliff.train.step import optimizer_step
from on_devices import each_device

# Dynamo looks at every tensor's gradient.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def one_step(folder, model, dtype, device, **changes):
    _, spec = make_run(folder, model, **changes)
    trained = Trainable.make(spec, model, dtype, device=chosen(device))
    optimizer = torch.optim.AdamW(list(trained.parameters().values()), lr=0.0, fused=True)
    take = {"rate": 0.01, "max_grad_norm": 1.0, "budget_tokens": 8192}
    return [optimizer_step(trained, optimizer, small_examples(), **take) for _ in range(3)]


@each_device
@pytest.mark.parametrize("kind", ["lora", "qlora"])
def test_steps_in_bfloat16_are_near_those_in_float32_on_the_cpu(device, kind, wide_model, tmp_path):
    method = Lora(kind=kind, rank=4, alpha=8)
    low = one_step(tmp_path / "low", wide_model, torch.bfloat16, device, method=method)
    exact = one_step(tmp_path / "exact", wide_model, torch.float32, "cpu", method=method)
    assert [s.loss for s in low] == pytest.approx([s.loss for s in exact], rel=0.02)
    assert [s.grad_norm for s in low] == pytest.approx([s.grad_norm for s in exact], rel=0.1)
    assert exact[2].loss < exact[0].loss


@each_device
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_two_runs_of_one_spec_end_with_the_same_bits(device, precision, wide_model, tmp_path):
    auto = {"device": device, "precision": precision, "budget_tokens": "auto", "gradient_checkpointing": "auto"}
    runs = [make_run(tmp_path / name, wide_model, **auto) for name in "ab"]
    for run, spec in runs:
        train(run, spec, device=chosen(device))
    (a, _), (b, _) = runs
    assert result(a) == result(b)
    assert steps(a)[-1].train_loss < steps(a)[0].train_loss
    started = EventLog(a / "events.jsonl", writes=False).read()[0]
    assert isinstance(started, Started)
    assert (started.device == "cpu") == (device == "cpu")
    assert started.budget_tokens == 8192


@pytest.mark.gpu
def test_two_ranks_on_two_gpus_learn_as_one(wide_model, tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    (alone, spec), (both, _) = (make_run(tmp_path / name, wide_model, device="cuda") for name in ("alone", "both"))
    train(alone, spec, device=chosen("cuda"))
    assert torchrun(both / "log.txt", "-m", "feinschliff.train", str(both)).wait(200) == 0, (both / "log.txt").read_text()
    assert [s.train_loss for s in steps(both)] == pytest.approx([s.train_loss for s in steps(alone)], rel=1e-4)

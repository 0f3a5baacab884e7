"""The device is chosen once, and nothing that a step computes is made on another."""
from dataclasses import dataclass

import pytest
import torch
from runs import make_run, small_examples
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from feinschliff.core.errors import TrainingFailed
from feinschliff.core.jobs import Full, Lora
from feinschliff.nn.recompute import recompute
from feinschliff.nn.tree import pack
from feinschliff.train.device import ON_CPU, Cpu, chosen
from feinschliff.train.model import Trainable
from feinschliff.train.state import Saved, StateFolder
from feinschliff.train.step import optimizer_step
from feinschliff.train.validation import validate
from tiny import make_tiny_model

META = torch.device("meta")


@dataclass(frozen=True)
class Meta(Cpu):
    """torch's device without numbers, in the place of one that this machine lacks: it has shapes, types and a place."""

    @property
    def where(self) -> torch.device:
        return META


class Apart(TorchDispatchMode):
    """Fails where an operator takes tensors of two devices, as no GPU's can; copying is what brings them together.

    Numbers that are read from a tensor without any are 1.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return 1.0 if args[0].is_floating_point() else 1
        places = {x.device for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor) and x.ndim}
        copies = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        assert len(places) <= 1 or copies, f"{func} takes tensors of {places}"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("family", "method", "recomputed"),
    [
        ("llama", Lora(rank=4, alpha=8), False), ("qwen2", Lora(rank=4, alpha=8, dora=True), True),
        ("gemma2", Lora(rank=4, alpha=8, kind="qlora"), False), ("phi3", Full(), False),
    ],
    ids=["fused", "biases, DoRA, recomputed", "windows, caps, nf4", "full"],
)  # fmt: skip
def test_a_step_computes_on_the_device_that_it_was_given(family, method, recomputed, tmp_path):
    folder = make_tiny_model(tmp_path / family, family)
    _, spec = make_run(tmp_path / "run", folder, method=method)
    dtype = torch.bfloat16 if isinstance(method, Lora) else torch.float32
    with Apart():
        model = Trainable.make(spec, folder, dtype, device=Meta())
        recompute(model.decoder.body, on=recomputed)
        optimizer = torch.optim.AdamW(list(model.parameters().values()), lr=0.0)
        grads: list[torch.Tensor | None] = []
        with pytest.MonkeyPatch.context() as patch:
            clip = torch.nn.utils.clip_grad_norm_
            patch.setattr(torch.nn.utils, "clip_grad_norm_", lambda ps, most, **_: clip(ps, most))  # no foreach without numbers
            # Gradients are looked at before the update, because it frees them.
            patch.setattr(optimizer, "step", lambda step=optimizer.step: (grads.extend(p.grad for p in model.parameters().values()), step()))
            optimizer_step(model, optimizer, small_examples(), rate=0.1, max_grad_norm=1.0, budget_tokens=100)
        loss, _ = model.loss(pack(small_examples()))
        validate(model, tuple(small_examples()), 1, 100)
    everything = [*model.parameters().values(), *model.decoder.body.buffers(), model.decoder.head, loss]
    assert {x.device for x in everything} == {META}
    assert {g.device for g in grads if g is not None} == {META}
    assert all(x.device == META for one in optimizer.state.values() for x in one.values() if x.ndim)


def test_a_machine_without_a_gpu_takes_the_cpu_or_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert chosen("auto") is chosen("cpu") is ON_CPU
    with pytest.raises(TrainingFailed, match="no CUDA device") as refused:
        chosen("cuda")
    assert "nvidia-smi" in refused.value.hint


def test_more_ranks_than_gpus_are_refused_with_how_many_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(TrainingFailed, match="Rank 2 of this machine") as refused:
        chosen("auto")
    assert "--nproc-per-node 2" in refused.value.hint


def test_a_state_of_an_earlier_version_and_one_of_a_gpu_are_gone_on_with_here(tiny_model, tmp_path):
    _, spec = make_run(tmp_path / "run", tiny_model)
    model = Trainable.make(spec, tiny_model, torch.float32)
    optimizer = torch.optim.AdamW(list(model.parameters().values()))
    torch.manual_seed(3)
    states = StateFolder(tmp_path / "state")
    states.save(Saved(1, "fp32", 0, 0.0), model.parameters(), optimizer)
    here = torch.get_rng_state()
    path = tmp_path / "state" / "step-1.pt"
    for random in (here, {"cpu": here, "cuda": torch.zeros(16, dtype=torch.uint8)}):
        torch.save(torch.load(path, weights_only=True) | {"rng": random}, path)
        torch.manual_seed(9)
        states.restore(model.parameters(), optimizer)
        assert torch.equal(torch.get_rng_state(), here)

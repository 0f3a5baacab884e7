"""Against what torch counts while the real step runs."""
import pytest
import torch
from runs import make_run, small_examples
from torch.utils.flop_counter import FlopCounterMode

from feinschliff.core.jobs import Full, Lora, Method
from feinschliff.nn.model import load
from feinschliff.train.flops import step_flops
from feinschliff.train.model import Trainable
from feinschliff.train.shape import Linear, ModelShape
from feinschliff.train.step import optimizer_step
from tiny import make_tiny_model


def counted_and_mine(folder, run, method: Method, *, fast: bool) -> tuple[int, int]:
    _, spec = make_run(run, folder, method=method)
    base = load(folder, dtype=torch.float32, trainable=isinstance(method, Full), fast=fast)
    model = Trainable(base, spec, folder) if isinstance(method, Full) else Trainable.make(spec, folder, torch.float32, base)
    optimizer = torch.optim.SGD(list(model.parameters().values()), lr=0.0)
    aten = torch.ops.aten
    counter = FlopCounterMode(display=False)
    counter.flop_registry[aten.addmm_] = counter.flop_registry[aten.addmm]  # torch counts the latter only
    with counter:
        told = optimizer_step(model, optimizer, small_examples(), rate=0.1, max_grad_norm=1.0, budget_tokens=10_000)
    by_op = counter.get_flop_counts()["Global"]
    counted = sum(n for op, n in by_op.items() if op in (aten.mm, aten.addmm, aten.addmm_))  # attention multiplies batches: bmm and others
    return counted, step_flops(
        ModelShape.of(folder), method, computed_tokens=told.computed_tokens, trained_rows=told.trained_tokens
    )


LORAS = [Lora(rank=4), Lora(rank=16), Lora(rank=4, targets=("q_proj", "down_proj"))]


@pytest.mark.parametrize("method", [Full(), *LORAS])
def test_the_count_is_what_the_step_computes(method: Method, tmp_path):
    counted, mine = counted_and_mine(make_tiny_model(tmp_path / "model", layers=6), tmp_path / "run", method, fast=False)
    # The first layer may do without its input's gradient, which LoRA does not need.
    assert mine == pytest.approx(counted, rel=0.0 if isinstance(method, Full) else 0.05)


@pytest.mark.parametrize("method", LORAS)
def test_fused_layers_compute_a_little_more_than_is_counted(method: Method, tmp_path):
    """Joint products multiply the zeros between their adapters: more the larger the rank is beside the width, here 32."""
    counted, mine = counted_and_mine(make_tiny_model(tmp_path / "model", layers=6), tmp_path / "run", method, fast=True)
    assert 0.97 * mine < counted < (1 + method.rank / 32) * mine


def test_only_the_head_depends_on_trained_rows():
    shape = ModelShape((Linear("up_proj", 20, 10),), 10, 50, 0, "llama")
    flops = [step_flops(shape, Full(), computed_tokens=7, trained_rows=r) for r in (0, 3)]
    assert flops == [3 * 2 * 200 * 7, 3 * 2 * 200 * 7 + 3 * 2 * 500 * 3]

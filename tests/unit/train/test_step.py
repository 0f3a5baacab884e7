import pytest
import torch
from runs import make_run, small_examples

from feinschliff.core.errors import TrainingFailed
from feinschliff.train.model import Trainable
from feinschliff.train.step import optimizer_step


def test_a_step_cut_into_pieces_equals_one_pass(tiny_model, tmp_path):
    after = []
    for budget in (64, 10_000):
        _, spec = make_run(tmp_path / str(budget), tiny_model)
        model = Trainable.make(spec, tiny_model, torch.float32)
        optimizer = torch.optim.SGD(list(model.parameters().values()), lr=0.0)
        optimizer.zero_grad()
        told = optimizer_step(model, optimizer, small_examples(), rate=0.5, max_grad_norm=1e9, budget_tokens=budget)
        after.append((told, {n: p.detach().clone() for n, p in model.parameters().items()}))
    (small, cut), (large, whole) = after
    assert small.computed_tokens > large.computed_tokens
    assert small.loss == pytest.approx(large.loss, rel=1e-6)
    assert small.grad_norm == pytest.approx(large.grad_norm, rel=1e-5)
    assert small.trained_tokens == large.trained_tokens
    for name in whole:
        torch.testing.assert_close(cut[name], whole[name], rtol=1e-5, atol=1e-7)


def test_a_gradient_that_is_not_finite_stops_training(tiny_model, tmp_path):
    _, spec = make_run(tmp_path, tiny_model)
    model = Trainable.make(spec, tiny_model, torch.float32)
    optimizer = torch.optim.SGD(list(model.parameters().values()), lr=0.0)
    with torch.no_grad():
        next(iter(model.parameters().values())).fill_(float("nan"))
    model.after_update()
    with pytest.raises(TrainingFailed, match="not finite"):
        optimizer_step(model, optimizer, small_examples(), rate=0.1, max_grad_norm=1.0, budget_tokens=1000)

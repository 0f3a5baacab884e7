import pytest
import torch

from feinschliff.nn.loss import CHUNK, head_loss


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("rows", [1, CHUNK, 2 * CHUNK + 3])
def test_loss_and_gradients_equal_torchs_cross_entropy(rows, softcap):
    torch.manual_seed(0)
    hidden = torch.randn(rows, 12, dtype=torch.float64, requires_grad=True)
    head = torch.randn(50, 12, dtype=torch.float64, requires_grad=True)
    targets, weights = torch.randint(50, (rows,)), torch.rand(rows, dtype=torch.float64)
    loss, n_correct = head_loss(hidden, head, targets, weights, dtype=torch.float64, softcap=softcap)
    logits = hidden @ head.t()
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    wanted = (torch.nn.functional.cross_entropy(logits, targets, reduction="none") * weights).sum()
    assert n_correct == int((logits.argmax(-1) == targets).sum())
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=1e-12)
    for mine, theirs in zip(torch.autograd.grad(loss, (hidden, head)), torch.autograd.grad(wanted, (hidden, head)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def test_a_frozen_head_gets_no_gradient():
    hidden, head = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4)
    loss, _ = head_loss(hidden, head, torch.tensor([1, 2, 3]), torch.ones(3), dtype=torch.float32, softcap=None)
    loss.backward()
    assert head.grad is None
    assert hidden.grad is not None


def test_huge_logits_do_not_overflow():
    hidden = torch.full((1, 1), 1e4, requires_grad=True)
    loss, n_correct = head_loss(
        hidden, torch.tensor([[1.0], [-1.0]]), torch.tensor([1]), torch.ones(1), dtype=torch.float32, softcap=None
    )
    assert loss.item() == pytest.approx(2e4)
    assert n_correct == 0

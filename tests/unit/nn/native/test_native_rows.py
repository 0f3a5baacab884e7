"""What the kernels do to rows equals torch's way in float64, whatever the rows' widths and strides."""
import pytest
import torch
from torch.nn import functional as F

from feinschliff.nn import fused, loss, norm
from feinschliff.nn.native import kernels
from feinschliff.nn.native.kernels import loaded

pytestmark = pytest.mark.skipif(loaded() is None, reason="no kernels: they need AVX-512 with bfloat16 and a C compiler")
ROUNDED = {"rtol": 2**-8, "atol": 1e-3}  # one rounding to bfloat16, and next to nothing
T = 37


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def low(*shape: int) -> torch.Tensor:
    return torch.randn(shape).bfloat16()


def test_norm_into_a_part_of_wider_rows_and_back():
    x, weight, both = torch.randn(T, 48), torch.rand(48), torch.full((T, 64), 7.0).bfloat16()
    rstd = norm.normalise_into(x, weight, 1e-5, both[:, :48])
    y, exact_rstd = norm.normalise(x.double(), weight.double(), 1e-5)
    torch.testing.assert_close(both[:, :48].double(), y, **ROUNDED)
    torch.testing.assert_close(rstd.double(), exact_rstd, rtol=1e-6, atol=0)
    assert torch.equal(both[:, 48:], torch.full((T, 16), 7.0).bfloat16())
    dy, past = low(T, 64), torch.randn(T, 48)
    for beside in (past, None):
        ours = norm.normalise_backward(dy[:, :48], x, weight, rstd, past=beside)
        wanted = norm.normalise_backward(dy[:, :48].double(), x.double(), weight.double(), exact_rstd, past=beside)
        torch.testing.assert_close(ours.double(), wanted, rtol=1e-5, atol=1e-5)


def test_rotation_there_and_back():
    angles = torch.randn(1, T, 64)
    cos, sin = (e[0, :, None, :32] for e in (angles.cos(), angles.sin()))  # rows as a model makes them
    x = low(T, 7, 64)
    there = fused.rotate(x[:, :5], cos, sin)
    torch.testing.assert_close(there.double(), fused.rotate(x[:, :5].double(), cos.double(), sin.double()), **ROUNDED)
    back = torch.zeros(T, 6, 64).bfloat16()
    fused.rotate(there, cos, sin, out=back[:, 1:], turn=-1.0)
    torch.testing.assert_close(back[:, 1:], x[:, :5], rtol=0.02, atol=0.03)
    assert not back[:, 0].any()


def test_gate_and_its_gradient_even_where_it_saturates():
    hidden = low(T, 2 * 48) * 8
    hidden[0, :4] = torch.tensor([-300.0, 300.0, -90.0, 0.0])
    out, d_gated = torch.zeros(T, 64).bfloat16(), low(T, 48)
    fused._gate(hidden, out[:, :48])
    exact = hidden.double().requires_grad_()
    gate, up = exact.chunk(2, 1)
    wanted = F.silu(gate) * up
    torch.testing.assert_close(out[:, :48].double(), wanted.detach(), **ROUNDED)
    assert not out[:, 48:].any()
    (d_wanted,) = torch.autograd.grad(wanted, exact, d_gated.double())
    gated, d_hidden = fused._gate_backward(d_gated, hidden)
    torch.testing.assert_close(d_hidden.double(), d_wanted, **ROUNDED)
    assert torch.equal(gated, out[:, :48])


def test_residual():
    x, part = torch.randn(T, 48), low(T, 48)
    assert torch.equal(fused._add(x, part), x + part)


@pytest.mark.parametrize("vocabulary", [16, 50, 1003])
@pytest.mark.parametrize("n_rows", [1, loss.LOW_CHUNK + 3])
def test_loss_and_its_gradient(n_rows, vocabulary, monkeypatch):
    hidden, head = low(n_rows, 32).float().requires_grad_(), low(vocabulary, 32)
    targets, weights = torch.randint(vocabulary, (n_rows,)), torch.rand(n_rows)
    weights[-1] = 0.0

    def outcome() -> tuple[torch.Tensor, int, torch.Tensor]:
        total, correct = loss.head_loss(hidden, head, targets, weights, dtype=torch.bfloat16, softcap=None)
        return total.detach(), correct, torch.autograd.grad(total, hidden)[0]

    ours = outcome()
    monkeypatch.setattr(kernels, "loaded", lambda: None)
    theirs = outcome()
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-5)
    assert ours[1] == theirs[1]
    torch.testing.assert_close(ours[2], theirs[2], rtol=0.02, atol=2e-3)
    logits = (hidden.detach().bfloat16() @ head.t()).double().requires_grad_()  # rounded, as both ways have them
    wanted = (F.cross_entropy(logits, targets, reduction="none") * weights).sum()
    (d_logits,) = torch.autograd.grad(wanted, logits)
    torch.testing.assert_close(ours[0].double(), wanted.detach(), rtol=1e-5, atol=1e-5)
    length = (d_logits @ head.double()).norm(dim=-1)
    near = (ours[2].double() - d_logits @ head.double()).norm(dim=-1) <= 0.01 * (length + length.mean())
    assert near.all()

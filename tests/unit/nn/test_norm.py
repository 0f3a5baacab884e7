import pytest
import torch
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from feinschliff.nn.norm import RmsNorm, like


def randomised(module: nn.Module) -> nn.Module:
    nn.init.normal_(module.weight, 0.1, 0.3)
    return module


@pytest.mark.parametrize("make", [LlamaRMSNorm, Gemma2RMSNorm])
def test_llama_and_gemma_norms_are_recognised(make):
    torch.manual_seed(0)
    theirs = randomised(make(16, eps=1e-5))
    ours = like(theirs, torch.float32)
    assert ours is not None
    x = torch.randn(3, 5, 16, requires_grad=True)
    torch.testing.assert_close(ours(x), theirs(x))
    weight = torch.randn(3, 5, 16)
    (mine,) = torch.autograd.grad((ours(x) * weight).sum(), x)
    (wanted,) = torch.autograd.grad((theirs(x) * weight).sum(), x)
    torch.testing.assert_close(mine, wanted)


class HalvingRMSNorm(LlamaRMSNorm):
    """Called like one, but something else."""

    def forward(self, hidden_states):
        return super().forward(hidden_states) / 2


class NoEpsRMSNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(16))


@pytest.mark.parametrize("other", [nn.LayerNorm(16), HalvingRMSNorm(16), NoEpsRMSNorm(), nn.Linear(16, 16)])
def test_anything_else_is_left_alone(other):
    assert like(other, torch.float32) is None


def test_gradient_is_right_in_float64():
    torch.manual_seed(0)
    ours = RmsNorm(torch.randn(8, dtype=torch.float64), 1e-5, torch.float64)
    assert torch.autograd.gradcheck(ours, torch.randn(4, 8, dtype=torch.float64, requires_grad=True))


def test_output_has_the_products_type_and_the_gradient_the_residuals():
    ours = RmsNorm(torch.ones(8), 1e-5, torch.bfloat16)
    x = torch.randn(4, 8, requires_grad=True)
    y = ours(x)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert x.grad.dtype == torch.float32

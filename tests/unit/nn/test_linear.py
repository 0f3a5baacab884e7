import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from feinschliff.nn.linear import CastLinear, Projection


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Linear(6, 10).double()


@pytest.mark.parametrize("bias", [True, False])
def test_projection_with_adapter_equals_peft(bias):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 10, bias=bias)).double()
    ours = Projection(plain[0].weight, plain[0].bias, torch.float64)
    inject_adapter_in_model(LoraConfig(r=3, lora_alpha=12, target_modules=["0"]), plain)
    peft_layer = plain[0].double()
    nn.init.normal_(peft_layer.lora_B["default"].weight)
    a, b = peft_layer.lora_A["default"].weight, peft_layer.lora_B["default"].weight
    ours.set_adapter(a.detach(), b.detach(), 12 / 3)
    x = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    mine, theirs = ours(x), plain(x)
    torch.testing.assert_close(mine, theirs)
    weight = torch.randn(mine.shape, dtype=torch.float64)
    got = torch.autograd.grad((mine * weight).sum(), (x, ours.lora_A, ours.lora_B))
    wanted = torch.autograd.grad((theirs * weight).sum(), (x, a, b))
    for g, w in zip(got, wanted, strict=True):
        torch.testing.assert_close(g, w)


def test_a_fresh_adapter_changes_nothing(linear):
    ours = Projection(linear.weight, linear.bias, torch.float64)
    ours.add_adapter(4, 2.0, torch.Generator().manual_seed(0))
    x = torch.randn(3, 6, dtype=torch.float64)
    torch.testing.assert_close(ours(x), linear(x))


def test_refresh_brings_the_trained_matrix_in_and_drop_takes_it_out(linear):
    ours = Projection(linear.weight, linear.bias, torch.float64)
    ours.add_adapter(4, 2.0, torch.Generator().manual_seed(0))
    x = torch.randn(3, 6, dtype=torch.float64)
    nn.init.normal_(ours.lora_B)
    ours.product.refresh()
    torch.testing.assert_close(ours(x), linear(x) + 2.0 * x @ ours.lora_A.t() @ ours.lora_B.t())
    ours.drop_adapter()
    torch.testing.assert_close(ours(x), linear(x))


def test_masters_stay_float32_and_products_run_in_bfloat16(linear):
    ours = Projection(linear.weight, None, torch.bfloat16)
    ours.add_adapter(4, 2.0, torch.Generator().manual_seed(0))
    y = ours(torch.randn(3, 6))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert ours.lora_A.dtype == ours.lora_B.grad.dtype == torch.float32


def test_cast_linear_trains_a_float32_master(linear):
    ours = CastLinear(linear.weight, linear.bias, torch.bfloat16)
    y = ours(torch.randn(3, 6))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert ours.weight.grad.dtype == ours.bias.grad.dtype == torch.float32
    exact = CastLinear(linear.weight, linear.bias, torch.float64)
    x = torch.randn(3, 6, dtype=torch.float64)
    torch.testing.assert_close(exact(x), linear(x))

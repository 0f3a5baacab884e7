import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from feinschliff.nn.linear import CastLinear, Product, Projection


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Linear(6, 10).double()


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_projection_with_adapter_equals_peft(bias, dora):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 10, bias=bias)).double()
    ours = Projection(plain[0].weight, plain[0].bias, torch.float64)
    inject_adapter_in_model(LoraConfig(r=3, lora_alpha=12, target_modules=["0"], use_dora=dora), plain)
    peft_layer = plain[0].double()
    nn.init.normal_(peft_layer.lora_B["default"].weight)
    a, b = peft_layer.lora_A["default"].weight, peft_layer.lora_B["default"].weight
    trained = [a, b]
    if dora:
        trained.append(peft_layer.lora_magnitude_vector["default"].weight)
        nn.init.uniform_(trained[2], -0.5, 3)
    ours.set_adapter(a.detach(), b.detach(), 12 / 3, trained[2].detach() if dora else None)
    x = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    mine, theirs = ours(x), plain(x)
    torch.testing.assert_close(mine, theirs)
    weight = torch.randn(mine.shape, dtype=torch.float64)
    got = torch.autograd.grad((mine * weight).sum(), (x, *ours.product.parameters()))
    wanted = torch.autograd.grad((theirs * weight).sum(), (x, *trained))
    for g, w in zip(got, wanted, strict=True):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("dora", [False, True])
def test_a_fresh_adapter_changes_nothing(linear, dora, dtype):
    bias = linear.bias if dtype == torch.float64 else None  # rounded apart from the product with DoRA
    ours, base = (Projection(linear.weight, bias, dtype) for _ in range(2))
    ours.add_adapter(4, 2.0, torch.Generator().manual_seed(0), dora=dora)
    x = torch.randn(3, 6, dtype=dtype)
    torch.testing.assert_close(ours(x), base(x), rtol=0, atol=1e-15)


def test_a_change_of_length_is_finer_than_bfloat16(linear):
    """A factor of 1.02 would be rounded to 1.0234."""
    ours = Projection(linear.weight, None, torch.bfloat16)
    ours.add_adapter(4, 2.0, torch.Generator().manual_seed(0), dora=True)
    x = torch.randn(400, 6)
    with torch.no_grad():
        before = ours(x).double()
        ours.lora_magnitude_vector.mul_(1.02)
        ours.product.refresh()
        after = ours(x).double()
    assert float((after * before).sum() / before.square().sum()) == pytest.approx(1.02, abs=1e-3)


def test_a_row_of_zeros_stays_one(linear):
    with torch.no_grad():
        linear.weight[3] = 0
    ours = Projection(linear.weight, None, torch.float64)
    ours.add_adapter(4, 2.0, torch.Generator().manual_seed(0), dora=True)
    y = ours(torch.randn(3, 6, dtype=torch.float64))
    grads = torch.autograd.grad(y.square().sum(), ours.product.parameters())
    assert not y[:, 3].any()
    assert all(g.isfinite().all() for g in grads)


def test_dora_beside_lora_and_nothing_in_one_product(linear):
    """Stacked members keep their own kinds of adapters, and one that leaves takes its magnitudes along."""
    torch.manual_seed(1)
    weights = [torch.randn(n, 6, dtype=torch.float64) for n in (4, 5, 3)]
    alone, joint = ([Projection(w, None, torch.float64) for w in weights] for _ in range(2))
    product = Product.join(joint)
    a, b, m = torch.randn(2, 6).double(), torch.randn(4, 2).double(), torch.rand(4).double()
    for dora, lora, _ in (alone, joint):
        dora.set_adapter(a, b, 2.0, m)
        lora.set_adapter(a, b.new_ones(5, 2), 2.0)
    x, dy = torch.randn(7, 6).double(), torch.randn(7, 12).double()
    for _ in range(2):
        each = [p.product for p in alone]
        both = product.widen(x)
        outs = [p(p.widen(x)) for p in each]
        y, kept = product(both)
        torch.testing.assert_close(y, torch.cat([o for o, _ in outs], 1))
        dx, grads = product.backward(dy, both, kept)
        parts = [p.backward(d, p.widen(x), k) for p, d, (_, k) in zip(each, dy.split((4, 5, 3), 1), outs, strict=True)]
        torch.testing.assert_close(dx, sum(d for d, _ in parts))
        torch.testing.assert_close(grads, [g for _, gs in parts for g in gs])
        for members in (alone, joint):
            members[0].drop_adapter()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("dora", [False, True])
def test_a_base_in_four_bits_multiplies_as_its_dequantised_weights(dora, dtype):
    """QLoRA: alone and joined, with and without an adapter, forward and back, to the bit."""
    torch.manual_seed(1)
    weights, biases = [torch.randn(n, 40) for n in (7, 64)], [torch.randn(7), None]
    quantised = [Projection(w, b, dtype, quantised=True) for w, b in zip(weights, biases, strict=True)]
    dense = [Projection(p.weight, b, dtype) for p, b in zip(quantised, biases, strict=True)]
    assert not torch.equal(dense[1].weight, weights[1].to(dtype))
    x, dy = torch.randn(5, 40).to(dtype), torch.randn(5, 71).to(dtype)
    for joint in (False, True):
        for adapted in (False, True):
            for members in (quantised, dense):
                if joint and not adapted:
                    Product.join(members)
                if adapted:
                    members[1].add_adapter(3, 2.0, torch.Generator().manual_seed(0), dora=dora)
                    nn.init.ones_(members[1].lora_B)
                    members[1].product.refresh()
                else:
                    members[1].drop_adapter()
            ours, wanted = (outcome(members[1].product, x, dy) for members in (quantised, dense))
            assert len(ours) == 2 + (2 + dora) * adapted
            torch.testing.assert_close(ours, wanted, rtol=0, atol=0)
    torch.testing.assert_close(quantised[0].weight, dense[0].weight, rtol=0, atol=0)


def outcome(product: Product, x: torch.Tensor, dy: torch.Tensor) -> list[torch.Tensor]:
    both = product.widen(x)
    y, kept = product(both)
    dx, grads = product.backward(dy[:, -y.shape[1] :], both, kept)
    return [y, dx, *grads]


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

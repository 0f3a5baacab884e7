"""oneDNN's float32 products are BLAS's, up to the order of sums."""
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from feinschliff.core.chat import Rendered
from feinschliff.core.jobs import Lora
from feinschliff.nn import adapter
from feinschliff.nn.attention import TreeAttend
from feinschliff.nn.linear import Product, Projection
from feinschliff.nn.model import load
from feinschliff.nn.multiply import blas, has_onednn, onednn, through
from feinschliff.nn.tree import pack

needs_onednn = pytest.mark.skipif(not has_onednn(), reason="this torch has no oneDNN")


def gaussian(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@needs_onednn
@pytest.mark.parametrize("n_rows", [1, 7, 300])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_the_same_up_to_rounding(n_rows, transposed, biased):
    x, bias = gaussian(n_rows, 80)[:, :70], gaussian(50) if biased else None  # rows that do not follow each other
    w = gaussian(70, 50).t() if transposed else gaussian(50, 70)
    exact = blas(x.double(), w.double(), None if bias is None else bias.double())
    torch.testing.assert_close(onednn(x, w, bias).double(), exact, rtol=1e-5, atol=2e-5)


@needs_onednn
@pytest.mark.parametrize("dora", [False, True])
def test_a_joint_product_has_the_same_output_and_gradients(dora):
    outcomes = []
    for multiply in (blas, onednn):
        members = [Projection(gaussian(n, 60), gaussian(n), torch.float32, multiply) for n in (40, 20, 30)]
        product = Product.join(members)
        for member in members[1:]:
            magnitude = 5 + gaussian(member.out_features) if dora else None
            member.set_adapter(gaussian(4, 60), gaussian(member.out_features, 4), 2.0, magnitude)
        both = product.widen(gaussian(33, 60))
        y, kept = product(both)
        outcomes.append([y, *product.backward(gaussian(33, 90), both, kept)])
    torch.testing.assert_close(outcomes[1], outcomes[0], rtol=1e-4, atol=1e-3)


class Operators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


@needs_onednn
@pytest.mark.parametrize("fast", [False, True])
def test_a_model_multiplies_its_weights_through_it_forward_and_back(tiny_model, fast):
    packed = pack([Rendered(list(range(5, 30)), [0.0] * 5 + [1.0] * 20)])
    hidden, used = {}, {}
    for library in ("blas", "onednn"):
        decoder = load(tiny_model, dtype=torch.float32, trainable=False, fast=fast, library=library)
        adapter.add(decoder, Lora(rank=4), seed=1)
        with Operators() as seen:
            hidden[library] = decoder.hidden(packed.tokens_T, packed.positions_T, TreeAttend(packed))
            hidden[library].sum().backward()
        used[library] = seen.names.count("mkldnn::_linear_pointwise")
    products, of_input = len(decoder.products()), 1 if fast else 3
    assert used == {"blas": 0, "onednn": 2 * products - of_input}  # nothing learns from the first layer's input
    torch.testing.assert_close(hidden["onednn"], hidden["blas"], rtol=1e-4, atol=1e-4)


def test_other_types_go_where_torch_sends_them():
    assert through("onednn", torch.bfloat16) is blas
    assert through("onednn", torch.float64) is blas
    assert through("blas", torch.float32) is blas
    assert (through("onednn", torch.float32) is onednn) == has_onednn()

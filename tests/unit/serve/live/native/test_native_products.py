"""The kernels' products equal the sums that they stand for, whatever the shapes, rows, adapters and threads."""
import pytest
import torch

from feinschliff.serve.live.native.kernels import loaded
from feinschliff.serve.live.native.products import Beside, NativeRows, Weights, head_of
from feinschliff.serve.live.products import LowRank

pytestmark = pytest.mark.skipif(loaded() is None, reason="no kernels: they need AVX-512 with bfloat16 and a C compiler")


class Base:
    """What NativeRows asks of a product."""

    def __init__(self, weight_NK, bias_N=None):
        self.weights, self.number, self.n_out, self.bias_N = Weights(weight_NK), 0, weight_NK.shape[0], bias_N


@pytest.fixture
def kernels():
    return loaded()


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def draw(generator, *shape):
    return (torch.randn(shape, generator=generator) / shape[-1] ** 0.5).bfloat16()


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("n_rows", [1, 5, 14, 16, 33])
@pytest.mark.parametrize("shape", [(64, 64), (50, 34), (1, 96), (161, 32)])
def test_few_rows_times_a_matrix(shape, n_rows, kernels, generator):
    weight_NK, x_TK = draw(generator, *shape), draw(generator, n_rows, shape[1])
    torch.testing.assert_close(head_of(kernels, weight_NK)(x_TK), x_TK.float() @ weight_NK.float().t())


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("stretched", [False, True])
def test_each_row_has_its_own_adapter(stretched, add, kernels, generator):
    weight_NK, x_TK, before_TN = draw(generator, 80, 64), draw(generator, 19, 64), draw(generator, 19, 80).float()
    bias_N = draw(generator, 80).float() if stretched else None
    owner_T = torch.tensor([(i * 7) % 5 - 1 for i in range(19)])
    parts = [LowRank(draw(generator, r, 64), draw(generator, 80, r)) if r else None for r in (1, 0, 8, 40)]
    if stretched:
        parts[2] = LowRank(parts[2].a_RK, parts[2].b_NR, draw(generator, 80))
    parts[3].b_NR[:32] = 0  # joined products have blocks that an adapter leaves alone
    rows = NativeRows(kernels)
    rows.use([Beside.of(parts)], owner_T)
    y_TN = before_TN.clone()
    rows.multiply(Base(weight_NK, bias_N), x_TK, rows.low(19), y_TN, add=add)
    wanted_TN = x_TK.float() @ weight_NK.float().t()
    for row, owner in enumerate(owner_T.tolist()):
        part = parts[owner] if owner >= 0 else None
        if part is not None:
            wanted_TN[row] += (x_TK[row].float() @ part.a_RK.float().t()).bfloat16().float() @ part.b_NR.float().t()
            if part.stretch_N is not None:
                wanted_TN[row] *= 1 + part.stretch_N.float()
    wanted_TN += (before_TN if add else 0) + (0 if bias_N is None else bias_N)
    torch.testing.assert_close(y_TN, wanted_TN, rtol=1e-4, atol=2e-3)  # a low-rank sum may round to its neighbour


def test_a_row_is_the_same_whoever_is_beside_it(kernels, generator):
    multiply, x_TK = head_of(kernels, draw(generator, 96, 576)), draw(generator, 40, 576)
    together = multiply(x_TK)
    for row in (0, 13, 39):
        assert torch.equal(multiply(x_TK[row : row + 1])[0], together[row])


def test_columns_are_read_out_of_the_layout(generator):
    weight_NK = draw(generator, 50, 34)
    assert torch.equal(Weights(weight_NK).columns(4, 30), weight_NK[:, 4:30])

"""Attention over trees through the kernels, against plain attention under a mask over all pairs in float64."""
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feinschliff.core.chat import Rendered
from feinschliff.nn import attention, blocks
from feinschliff.nn.attention import TreeAttend
from feinschliff.nn.native.attention import Laid, attention_kernels
from feinschliff.nn.native.kernels import HEAD_DIMS, loaded
from feinschliff.nn.tree import pack
from plain_model import by_mask, families_of_examples

pytestmark = pytest.mark.skipif(loaded() is None, reason="no kernels: they need AVX-512 with bfloat16 and a C compiler")
few = settings(max_examples=25, deadline=None, derandomize=True)
ROUNDED = 0.015  # of a row's length and the mean one's; one key too many or too few among 90 changes a row by 0.1


def heads(shape, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16().requires_grad_()


def with_gradients(way, inputs):
    out = way(*inputs)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(9)).bfloat16().to(out.dtype)
    return [x.detach().double() for x in (out, *torch.autograd.grad(out, inputs, weight))]


def check(packed, n_heads, *, d=32, before=0, window=None, scale=0.25, cancelled=1e-3):
    """Row by row, so that one lost row among many is seen. `cancelled`: what is left of a row whose terms cancel."""
    T, (H, Hk) = len(packed), n_heads
    inputs = [heads((H, T, d), 0), heads((Hk, before + T, d), 1), heads((Hk, before + T, d), 2)]
    assert attention_kernels(*inputs, None) is not None
    tree = TreeAttend(packed)
    ours = with_gradients(lambda *x: tree(0, *x, scale=scale, window=window, softcap=None, before=before), inputs)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    wanted = with_gradients(lambda *x: by_mask(*x, packed, scale, window, None, before), exact)
    for mine, right in zip(ours, wanted, strict=True):
        length = right.norm(dim=-1)
        near = (mine - right).norm(dim=-1) <= ROUNDED * (length + length.mean()) + cancelled
        assert near.all(), (~near).nonzero()[:5]


def branches(n: int, stem: int, branch: int):
    own = [[*range(1000 * i, 1000 * i + branch)] for i in range(1, n + 1)]
    return pack([Rendered([*range(5, 5 + stem), *o, 3], [0.0] * (stem + branch) + [1.0]) for o in own])


@pytest.fixture(params=[(128, 1 << 23), (3, 1 << 20), (1, 1)], ids=str)
def cut(request, monkeypatch):
    """Blocks as they come, and so small that small trees have many."""
    monkeypatch.setattr(blocks, "ROWS", request.param[0])
    monkeypatch.setattr(blocks, "TILE", request.param[1])


@pytest.mark.usefixtures("cut")
@few
@given(
    families_of_examples(), st.sampled_from([(4, 4), (4, 2), (6, 1), (9, 3)]), st.sampled_from([None, 1, 2, 5, 9, 100]),
    st.sampled_from([0, 1, 7, 8, 30]), st.sampled_from([0.25, 0.3]),
)  # fmt: skip
def test_equals_attention_under_the_whole_mask(examples, n_heads, window, before, scale):
    check(pack(examples, min_saving=1), n_heads, before=before, window=window, scale=scale, cancelled=0.1)  # rows of five keys are about 3 long


@pytest.mark.parametrize("n_heads", [(1, 1), (5, 5), (9, 3), (28, 1)], ids=str)
@pytest.mark.parametrize("d", HEAD_DIMS)
def test_all_widths_of_heads_and_sizes_of_groups(d, n_heads):
    check(branches(3, 61, 30), n_heads, d=d, scale=d**-0.5)


@pytest.mark.parametrize("window", [None, 70])
def test_blocks_beyond_one_tile_of_keys(window):
    check(branches(2, 300, 130), (4, 2), d=64, scale=0.125, window=window, before=5)


def bits(threads: int) -> list[torch.Tensor]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        packed = branches(5, 140, 90)
        inputs = [heads((h, len(packed), 64), i) for i, h in enumerate((9, 3, 3))]
        return with_gradients(lambda *x: TreeAttend(packed)(0, *x, scale=0.125, window=None, softcap=None), inputs)
    finally:
        torch.set_num_threads(before)


def test_same_bits_every_time_and_for_any_number_of_threads_up_to_twice_the_key_heads():
    first = bits(1)
    for threads in (1, 2, 2, 3, 6):
        assert all(map(torch.equal, bits(threads), first))


def test_chunks_hold_every_block_once():
    plan = blocks.Plan(branches(7, 30, 200), None, 3, 0, torch.bfloat16)
    laid = Laid(plan, 3)
    assert [i for first, last, _, _ in laid.chunks.tolist() for i in range(first, last)] == list(range(len(plan.blocks)))


@pytest.mark.parametrize(("dtype", "d", "softcap"), [(torch.float32, 64, None), (torch.bfloat16, 72, None), (torch.bfloat16, 64, 30.0)])
def test_what_they_do_not_know_goes_through_products(dtype, d, softcap, monkeypatch):
    monkeypatch.setattr(attention, "attention_by_kernels", None)
    packed = branches(2, 20, 10)
    inputs = [torch.randn(h, len(packed), d, dtype=dtype) for h in (4, 2, 2)]
    assert TreeAttend(packed)(0, *inputs, scale=0.1, window=None, softcap=softcap).shape == (len(packed), 4, d)

"""Attention over a tree against plain attention under a mask over all pairs."""
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feinschliff.core.chat import Rendered
from feinschliff.nn import blocks
from feinschliff.nn.attention import TreeAttend
from feinschliff.nn.tree import pack
from plain_model import by_mask, families_of_examples

few = settings(max_examples=20, deadline=None, derandomize=True)


def heads(shape, seed: int, dtype=torch.float64, factor: float = 1.0) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * factor
    return x.to(dtype).requires_grad_()


def with_gradients(way, inputs):
    out = way(*inputs)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64).to(out.dtype)
    return out, *torch.autograd.grad((out * weight).sum(), inputs)


def both_ways(packed, n_heads, *, d=8, dtype=torch.float64, before=0, factor=1.0, scale=0.3, window=None, softcap=None):
    """(ours, wanted) for the output and the gradients of q, k and v; wanted in float64 from the same inputs."""
    T, (H, Hk) = len(packed), n_heads
    inputs = [
        heads(shape, seed, dtype, factor if seed == 0 else 1.0)
        for seed, shape in enumerate(((H, T, d), (Hk, before + T, d), (Hk, before + T, d)))
    ]
    tree = TreeAttend(packed)
    ours = with_gradients(lambda *x: tree(0, *x, scale=scale, window=window, softcap=softcap, before=before), inputs)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    wanted = with_gradients(lambda *x: by_mask(*x, packed, scale, window, softcap, before), exact)
    return list(zip(ours, wanted, strict=True))


def branches(n: int, stem: int, branch: int):
    own = [[*range(1000 * i, 1000 * i + branch)] for i in range(1, n + 1)]
    return pack([Rendered([*range(5, 5 + stem), *o, 3], [0.0] * (stem + branch) + [1.0]) for o in own])


@pytest.fixture(params=[(128, 1 << 23), (3, 1 << 20), (4, 30), (1, 1)], ids=str)
def cut(request, monkeypatch):
    """Blocks as they come, and so small that small trees have many."""
    monkeypatch.setattr(blocks, "ROWS", request.param[0])
    monkeypatch.setattr(blocks, "TILE", request.param[1])


@pytest.mark.usefixtures("cut")
@few
@given(
    families_of_examples(), st.sampled_from([(4, 4), (4, 2), (6, 1)]), st.sampled_from([None, 1, 2, 5, 9, 100]),
    st.sampled_from([None, 2.0]), st.sampled_from([0, 1, 7]), st.sampled_from([0.25, 0.3]),
)  # fmt: skip
def test_equals_attention_under_the_whole_mask(examples, n_heads, window, softcap, before, scale):
    packed = pack(examples, min_saving=1)
    for ours, wanted in both_ways(packed, n_heads, before=before, window=window, softcap=softcap, scale=scale):
        torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-9)


def error(ours, wanted) -> float:
    return float(((ours.double() - wanted).norm() / wanted.norm()).detach())


@pytest.mark.parametrize(("scale", "softcap", "limit"), [(0.125, None, 0.01), (0.1, None, 0.01), (0.125, 20.0, 0.05)])
@pytest.mark.parametrize("window", [None, 70])
def test_in_bfloat16_as_near_to_exact_as_its_inputs_allow(scale, softcap, limit, window):
    """Scores of ±80 rounded to bfloat16 are off by up to 0.25, and weights and gradients by a quarter. A cap is computed
    from rounded products, so it costs more.
    """
    packed = branches(4, 195, 60)
    pairs = both_ways(packed, (4, 2), d=64, dtype=torch.bfloat16, factor=4.0, scale=scale, softcap=softcap, window=window)
    for ours, wanted in pairs:
        assert ours.dtype == torch.bfloat16
        assert error(ours, wanted) < limit


def test_masks_that_are_not_kept_are_made_again(monkeypatch):
    monkeypatch.setattr(blocks, "KEPT", 0)
    for ours, wanted in both_ways(branches(3, 30, 20), (4, 2)):
        torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-9)


def test_what_is_kept_for_the_backward_pass_grows_with_the_tokens_and_not_with_the_path():
    packed, kept = branches(3, 300, 500), []
    inputs = heads((4, 1800, 8), 0), heads((2, 1800, 8), 1), heads((2, 1800, 8), 2)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        TreeAttend(packed)(0, *inputs, scale=0.3, window=64, softcap=None)
    assert sum(kept) == 1800 * (4 * 9 + 4 * 8 + 2 * 2 * 9)  # q and out, k and v; a column of log-sum-exps, and what meets it

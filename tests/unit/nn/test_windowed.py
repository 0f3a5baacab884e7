import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_model import families_of_examples

from feinschliff.core.chat import Rendered
from feinschliff.nn import windowed
from feinschliff.nn.attention import TreeAttend
from feinschliff.nn.tree import pack
from feinschliff.nn.windowed import Plan, rows

few = settings(max_examples=15, deadline=None, derandomize=True)
windows = st.sampled_from([None, 1, 2, 5, 9, 100])


def heads(T, H, d, seed, dtype=torch.float64):
    return torch.randn(H, T, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype).requires_grad_()


def both_ways(packed, n_heads, before, dtype=torch.float64, **options):
    """Output and gradients by blocks, and by the whole mask."""
    T, (H, Hk) = len(packed), n_heads
    inputs = heads(T, H, 8, 0, dtype), heads(before + T, Hk, 8, 1, dtype), heads(before + T, Hk, 8, 2, dtype)
    tree = TreeAttend(packed)
    results = []
    for way in (tree.windowed, tree.dense):
        out = way(*inputs, scale=0.3, before=before, **options)
        weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64).to(dtype)
        results.append((out, *torch.autograd.grad((out * weight).sum(), inputs)))
    return zip(*results, strict=True)


@pytest.fixture(params=[(128, 1 << 20), (3, 1 << 20), (4, 30), (1, 1)], ids=str)
def cut(request, monkeypatch):
    """Blocks as they come, and so small that small trees have many."""
    monkeypatch.setattr(windowed, "ROWS", request.param[0])
    monkeypatch.setattr(windowed, "TILE", request.param[1])


@pytest.mark.usefixtures("cut")
@few
@given(
    families_of_examples(), st.sampled_from([(4, 4), (4, 2), (6, 1)]), windows, st.sampled_from([None, 2.0]), st.sampled_from([0, 1, 7])
)
def test_blocks_equal_the_whole_mask(examples, n_heads, window, softcap, before):
    packed = pack(examples, min_saving=1)
    for ours, wanted in both_ways(packed, n_heads, before, window=window, softcap=softcap):
        torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("cut")
@few
@given(families_of_examples(), windows, st.sampled_from([0, 1, 7]), st.sampled_from([1, 3]))
def test_a_block_meets_exactly_the_keys_that_its_queries_see_and_no_more(examples, window, before, groups):
    packed = pack(examples, min_saving=1)
    plan = Plan(packed, window, groups, before)
    ahead = packed.positions_T[:, None] - torch.arange(-before, 0) < (window or 1000)
    mask = torch.cat([ahead, packed.dense_mask(window)], 1)
    places = torch.arange(before + len(packed))
    assert [r for b in plan.blocks for r in range(b.start, b.end)] == list(range(len(packed)))
    for block in plan.blocks:
        seen = mask[block.start : block.end]
        assert rows(places, block.keys).tolist() == seen.any(0).nonzero()[:, 0].tolist()
        assert torch.equal(~plan.hidden(block), seen[:, rows(places, block.keys)])
        assert groups * (block.end - block.start) * block.n_keys <= windowed.TILE or block.end - block.start == 1


def branches(n: int, stem: int, branch: int) -> list[Rendered]:
    own = [[*range(1000 * i, 1000 * i + branch)] for i in range(1, n + 1)]
    return [Rendered([*range(5, 5 + stem), *o, 3], [0.0] * (stem + branch) + [1.0]) for o in own]


def test_what_is_kept_and_touched_grows_with_the_window_not_with_the_path():
    packed = pack(branches(3, 300, 500))
    plan = Plan(packed, 64, 2)
    assert len(packed) == 1800
    assert max(b.n_keys for b in plan.blocks) <= 64 - 1 + windowed.ROWS
    kept = []
    inputs = heads(1800, 4, 8, 0), heads(1800, 2, 8, 1), heads(1800, 2, 8, 2)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        windowed.windowed(*inputs, plan, scale=0.3, softcap=None)
    assert sum(kept) == 1800 * (2 * 4 * 8 + 2 * 2 * 8 + 4)  # q and out, k and v, the log-sum-exps


def test_whole_nodes_share_a_block_and_long_ones_are_not_cut_by_their_neighbours():
    plan = Plan(pack(branches(6, 200, 40)), None, 1)
    assert [(b.start, b.end) for b in plan.blocks] == [(0, 128), (128, 240), (240, 360), (360, 440)]


def test_bfloat16_costs_no_more_than_its_rounding():
    packed = pack(branches(3, 100, 60))
    exact = list(both_ways(packed, (4, 2), 0, window=50, softcap=5.0))
    low = list(both_ways(packed, (4, 2), 0, torch.bfloat16, window=50, softcap=5.0))
    for (mine, dense), (wanted, _) in zip(low, exact, strict=True):
        assert mine.dtype == torch.bfloat16
        error, usual = ((x.double() - wanted).norm() / wanted.norm() for x in (mine, dense))
        assert error < max(0.02, 1.5 * usual)

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_attention import branches

from feinschliff.nn import blocks
from feinschliff.nn.blocks import Plan, rows
from feinschliff.nn.tree import pack
from plain_model import families_of_examples, seen


@pytest.fixture(params=[(128, 1 << 23), (3, 1 << 20), (4, 30), (1, 1)], ids=str)
def cut(request, monkeypatch):
    monkeypatch.setattr(blocks, "ROWS", request.param[0])
    monkeypatch.setattr(blocks, "TILE", request.param[1])


@pytest.mark.usefixtures("cut")
@settings(max_examples=15, deadline=None, derandomize=True)
@given(families_of_examples(), st.sampled_from([None, 1, 2, 5, 9, 100]), st.sampled_from([0, 1, 7]), st.sampled_from([1, 3]))
def test_a_block_meets_exactly_the_keys_that_its_queries_see_and_no_more(examples, window, before, groups):
    packed = pack(examples, min_saving=1)
    plan = Plan(packed, window, groups, before, torch.float64)
    mask = seen(packed, window, before)
    places = torch.arange(before + len(packed))
    assert [r for b in plan.blocks for r in range(b.start, b.end)] == list(range(len(packed)))
    for block in plan.blocks:
        here = mask[block.start : block.end]
        assert rows(places, block.keys).tolist() == here.any(0).nonzero()[:, 0].tolist()
        here = here[:, rows(places, block.keys)]
        scores = torch.zeros(1, groups * len(here), block.n_keys)
        plan.mask(block).hide(scores)
        assert torch.equal(scores[0].isinf(), ~here.repeat_interleave(groups, 0))
        assert groups * (block.end - block.start) * block.n_keys <= blocks.TILE or block.end - block.start == 1


def test_what_is_touched_grows_with_the_window_not_with_the_path():
    packed = branches(3, 300, 500)
    plan = Plan(packed, 64, 2, 0, torch.float32)
    assert len(packed) == 1800
    assert max(b.n_keys for b in plan.blocks) <= 64 - 1 + blocks.ROWS


def test_whole_nodes_share_a_block_and_long_ones_are_not_cut_by_their_neighbours():
    plan = Plan(branches(6, 200, 40), None, 1, 0, torch.float32)
    assert [(b.start, b.end) for b in plan.blocks] == [(0, 128), (128, 240), (240, 360), (360, 440)]

"""Attention through FlexAttention against attention by blocks, and its tiles against the whole mask."""
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_attention import branches, heads, with_gradients
from torch.nn.attention import flex_attention as torchs

from feinschliff.nn import attention_flex
from feinschliff.nn.attention import TreeAttend
from feinschliff.nn.attention_flex import FlexAttend, block_mask
from feinschliff.nn.tree import pack
from plain_model import families_of_examples, seen

CPU = torch.device("cpu")


@pytest.fixture
def eager(monkeypatch):
    """torch refuses backward passes on CPUs, since its compiled kernels have none there; without compiling they work."""
    monkeypatch.setattr(torchs, "_validate_device", lambda *_: None)
    monkeypatch.setattr(torchs, "_WARNINGS_SHOWN", {"flex_attention_performance"})
    torch._dynamo.reset()


@pytest.mark.usefixtures("eager")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # Dynamo looks at all of them
@pytest.mark.parametrize(
    ("n_heads", "window", "softcap", "before", "dtype"),
    [
        ((4, 2), None, None, 0, torch.float64), ((6, 1), 70, 2.0, 0, torch.float64), ((4, 4), 9, None, 7, torch.float64),
        ((4, 2), 70, 2.0, 3, torch.float32),
    ],
)  # fmt: skip
def test_equals_attention_by_blocks_forward_and_backward(n_heads, window, softcap, before, dtype):
    packed, (H, Hk) = branches(3, 150, 40), n_heads
    T, d = len(packed), 16
    inputs = [heads(shape, seed, dtype) for seed, shape in enumerate(((H, T, d), (Hk, before + T, d), (Hk, before + T, d)))]
    asked = {"scale": 0.3, "window": window, "softcap": softcap, "before": before}
    pairs = zip(*(with_gradients(lambda *x, way=way: way(0, *x, **asked), inputs) for way in (FlexAttend(packed), TreeAttend(packed))), strict=True)
    tolerance = 1e-9 if dtype == torch.float64 else 2e-5
    for ours, wanted in pairs:
        torch.testing.assert_close(ours, wanted, rtol=tolerance, atol=tolerance)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(families_of_examples(), st.sampled_from([None, 1, 3, 9, 100]), st.sampled_from([0, 1, 7]), st.sampled_from([1, 4, 16, 128]))
def test_tiles_and_what_is_seen_in_them_are_those_of_the_whole_mask(examples, window, before, tile):
    packed = pack(examples, min_saving=1)
    wanted = seen(packed, window, before)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_flex, "TILE", tile)
        mask = block_mask(packed, window, before, CPU)
    at = torch.zeros((), dtype=torch.int64)
    query, key = torch.arange(wanted.shape[0])[:, None], torch.arange(wanted.shape[1])[None]
    assert torch.equal(mask.mask_mod(at, at, query, key), wanted)
    some, full = (_dense(*x) for x in ((mask.kv_num_blocks, mask.kv_indices), (mask.full_kv_num_blocks, mask.full_kv_indices)))
    assert not (some & full).any()
    by_tile = torch.nn.functional.pad(wanted, (0, -wanted.shape[1] % tile, 0, -wanted.shape[0] % tile))
    by_tile = by_tile.unflatten(1, (-1, tile)).unflatten(0, (-1, tile)).transpose(1, 2).flatten(2)
    assert (some | full)[by_tile.any(-1)].all()  # nothing that is seen is skipped
    assert by_tile[full].all()  # nothing is taken unasked that is not seen
    assert window is not None or torch.equal(full, by_tile.all(-1))  # nor is asked about what is


def _dense(numbers: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    dense = torch.zeros(indices.shape[2:], dtype=torch.bool)
    for row, (n, listed) in enumerate(zip(numbers[0, 0].tolist(), indices[0, 0].tolist(), strict=True)):
        dense[row, listed[:n]] = True
    return dense


def test_other_branches_cost_no_tile():
    mask = block_mask(branches(8, 128, 256), None, 0, CPU)  # a common tile, then two for every branch
    assert int(mask.kv_num_blocks.sum() + mask.full_kv_num_blocks.sum()) == 1 + 8 * (2 + 3)


def test_a_window_that_reaches_over_the_longest_path_is_none():
    packed = branches(2, 20, 10)
    attend, x = FlexAttend(packed, lambda q, k, v, **asked: q), torch.zeros(2, len(packed), 16)
    for window in (packed.longest_path, None, 5):
        attend(0, x, x, x, scale=1.0, window=window, softcap=None)
    assert {window for window, *_ in attend._masks} == {None, 5}


def test_heads_too_narrow_for_the_kernel_go_by_blocks():
    packed = branches(3, 30, 20)
    q, k, v = (heads((n, len(packed), 8), n).detach() for n in (4, 2, 2))
    asked = {"scale": 0.3, "window": 9, "softcap": 2.0}
    assert torch.equal(FlexAttend(packed, None)(0, q, k, v, **asked), TreeAttend(packed)(0, q, k, v, **asked))


@pytest.mark.long
@pytest.mark.parametrize("window", [None, 70])
def test_the_compiled_kernel_takes_the_right_tiles(window):
    """On a CPU there is a compiled kernel of the forward pass; it goes by the block mask, as those of GPUs do."""
    for n in (5, 4, 6):  # the first length, and two that share a kernel
        packed = branches(n, 195, 90)
        q, k, v = (heads((n, len(packed), 16), n, torch.float32).detach() for n in (4, 2, 2))
        asked = {"scale": 0.3, "window": window, "softcap": 5.0}
        ours = FlexAttend(packed, attention_flex.compiled())(0, q, k, v, **asked)
        torch.testing.assert_close(ours, TreeAttend(packed)(0, q, k, v, **asked), rtol=1e-4, atol=1e-4)

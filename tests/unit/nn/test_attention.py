import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_model import families_of_examples

from feinschliff.core.chat import Rendered
from feinschliff.nn.attention import TreeAttend
from feinschliff.nn.tree import pack

few = settings(max_examples=20, deadline=None, derandomize=True)


def heads(T: int, H: int, d: int, seed: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(H, T, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype).requires_grad_()


def by_mask(q, k, v, packed, scale, window=None, softcap=None):
    """Plain attention under the dense mask."""
    k, v = (x.repeat_interleave(q.shape[0] // k.shape[0], 0) for x in (k, v))
    scores = q @ k.transpose(1, 2) * scale
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    return (scores.masked_fill(~packed.dense_mask(window), float("-inf")).softmax(-1) @ v).transpose(0, 1)


def gradients(out, *inputs):
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64).to(out.dtype)
    return torch.autograd.grad((out * weight).sum(), inputs)


@few
@given(families_of_examples(), st.sampled_from([(4, 4), (4, 2), (6, 1)]))
def test_attention_by_parts_equals_attention_under_the_dense_mask(examples, n_heads):
    packed = pack(examples, min_saving=1)
    q, k, v = (heads(len(packed), n, 8, seed) for seed, n in enumerate((n_heads[0], n_heads[1], n_heads[1])))
    ours = TreeAttend(packed)(0, q, k, v, scale=0.3, window=None, softcap=None)
    wanted = by_mask(q, k, v, packed, 0.3)
    torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-10)
    for mine, theirs in zip(gradients(ours, q, k, v), gradients(wanted, q, k, v), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


@few
@given(families_of_examples(), st.sampled_from([1, 3, 100]), st.sampled_from([None, 2.0]))
def test_window_and_softcap(examples, window, softcap):
    packed = pack(examples, min_saving=1)
    q, k, v = (heads(len(packed), n, 8, seed) for seed, n in enumerate((4, 2, 2)))
    ours = TreeAttend(packed)(0, q, k, v, scale=0.3, window=window, softcap=softcap)
    torch.testing.assert_close(ours, by_mask(q, k, v, packed, 0.3, window, softcap), rtol=1e-10, atol=1e-10)


def test_bfloat16_merges_unrounded_parts():
    """Partial results are added in float32, so parts cost no more than one rounding (2⁻⁸) of the whole."""
    prefix = list(range(5, 200))
    packed = pack([Rendered([*prefix, *range(i, i + 30)], [0.0] * 200 + [1.0] * 25) for i in range(4)])
    q, k, v = (heads(len(packed), n, 16, seed, torch.bfloat16) for seed, n in enumerate((4, 2, 2)))
    ours = TreeAttend(packed)(0, q, k, v, scale=0.25, window=None, softcap=None)
    wanted = by_mask(q.double(), k.double(), v.double(), packed, 0.25)
    torch.testing.assert_close(ours.double(), wanted, rtol=2**-6, atol=2**-6)

"""Attention by products against plain attention and autograd through it."""
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feinschliff.nn import attention_products as module
from feinschliff.nn.attention_products import attention, attention_gradient

few = settings(max_examples=25, deadline=None, derandomize=True)


def plain(q, k, v, scale, *, causal):
    """Output and log-sum-exps, differentiable, grouped heads repeated."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(2, 3) * scale
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), float("-inf"))
    return scores.softmax(-1) @ v, scores.logsumexp(-1)


def case(B, H, Hk, L, P, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (B, H, L, d), (B, Hk, P, d), (B, Hk, P, d), (B, H, L, d)
    return [torch.randn(s, generator=generator, dtype=torch.float64) * 1.5 for s in shapes]


@few
@given(
    st.integers(1, 3), st.sampled_from([(4, 4), (4, 2), (6, 1)]), st.integers(1, 40), st.integers(1, 30),
    st.sampled_from([4, 16]), st.booleans(), st.sampled_from([5, 16, 100]), st.sampled_from([200, 1 << 20]),
)  # fmt: skip
def test_equals_autograd_in_float64(B, heads, L, P, d, causal, block, scores):
    with pytest.MonkeyPatch.context() as patch:  # small blocks, so that several of them meet in one case
        patch.setattr(module, "BLOCK", block)
        patch.setattr(module, "SCORES", scores)
        q, k, v, weight = case(B, *heads, L, L if causal else P, d)
        scale = d**-0.5 * 1.1
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        out, lse = plain(*leaves, scale, causal=causal)
        wanted = torch.autograd.grad((out * weight).sum(), leaves)
        ours = attention_gradient(weight, q, k, v, out.detach(), lse.detach(), scale, causal=causal)
    for mine, theirs in zip(ours, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [0.125, 0.1])
def test_in_bfloat16_as_near_to_exact_as_its_inputs_allow(scale):
    """Scores of ±60 rounded to bfloat16 would be off by 0.1 and more, and gradients by as many tenths."""
    q, k, v, weight = (x.bfloat16() for x in case(1, 4, 2, 300, 300, 64))
    q = q * 3
    leaves = [x.double().requires_grad_() for x in (q, k, v)]
    out, lse = plain(*leaves, scale, causal=True)
    wanted = torch.autograd.grad((out * weight.double()).sum(), leaves)
    ours = attention_gradient(weight, q, k, v, out.detach().bfloat16(), lse.detach().float(), scale, causal=True)
    for mine, theirs in zip(ours, wanted, strict=True):
        assert float((mine.double() - theirs).norm() / theirs.norm()) < 0.01


@few
@given(
    st.integers(1, 3), st.sampled_from([(4, 4), (4, 2), (6, 1)]), st.integers(1, 40), st.integers(1, 30),
    st.booleans(), st.sampled_from([5, 16, 100]), st.sampled_from([0.25, 0.3]),
)  # fmt: skip
def test_forward_in_bfloat16(B, heads, L, P, causal, block, scale):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        q, k, v, _ = (x.bfloat16() for x in case(B, *heads, L, L if causal else P, 16))
        out, lse = attention(q, k, v, scale, causal=causal)
    wanted, wanted_lse = plain(q.double(), k.double(), v.double(), scale, causal=causal)
    torch.testing.assert_close(out.double(), wanted, rtol=0.02, atol=0.02)
    torch.testing.assert_close(lse.double(), wanted_lse, rtol=0.005, atol=0.005)


def test_large_scores_are_not_rounded_before_the_exponential():
    """Scores of ±80 rounded to bfloat16 are off by up to 0.25, and weights by a quarter."""
    q, k, v, _ = (x.bfloat16() for x in case(1, 4, 2, 300, 300, 64))
    q = q * 4
    out, lse = attention(q, k, v, 0.125, causal=True)
    wanted, wanted_lse = plain(q.double(), k.double(), v.double(), 0.125, causal=True)
    assert float((out.double() - wanted).norm() / wanted.norm()) < 0.005
    assert float((lse.double() - wanted_lse).abs().max()) < 0.02

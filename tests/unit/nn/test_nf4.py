import numpy as np
import pytest
import torch
from scipy.stats import norm

from feinschliff.nn.nf4 import BLOCK, GROUP, LEVELS, PIECES, Nf4, _fine_levels
from feinschliff.train.device import chosen
from on_devices import each_device


def gaussian(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.05


def test_the_levels_are_the_quantiles_of_the_paper():
    """Appendix E: evenly spaced quantiles of a normal distribution, eight above zero and seven below, with an exact zero."""
    outermost = 1 - (1 / (2 * 15) + 1 / (2 * 16)) / 2
    above, below = (norm.ppf(np.linspace(outermost, 0.5, n)[:-1]) for n in (9, 8))
    wanted = np.sort([*above, 0.0, *-below])
    np.testing.assert_allclose(LEVELS, wanted / wanted.max(), atol=1e-6)


def test_the_second_levels_are_finer_near_zero():
    levels = _fine_levels(torch.device("cpu"))
    assert len(levels) == len(levels.unique()) == 256
    assert levels.max() == 1
    assert (levels.abs() < 0.1).sum() == 127  # half of them in a tenth of the range


@pytest.mark.parametrize("shape", [(96, 64), (33, 40), (7, 9), (300, 576)])  # blocks that end with rows, and that don't
def test_every_weight_becomes_the_nearest_level_of_its_block(shape):
    weight = gaussian(*shape)
    got = Nf4.of(weight).dequantised(torch.float32).flatten()
    padded = torch.nn.functional.pad(weight.flatten(), (0, -weight.numel() % BLOCK)).view(-1, BLOCK)
    largest = padded.abs().amax(1, keepdim=True)
    levels = torch.tensor(LEVELS)
    nearest = levels[(padded[..., None] / largest[..., None] - levels).abs().argmin(-1)] * largest
    wanted = nearest.flatten()[: weight.numel()]
    # The largest magnitudes are off by at most half a step of theirs: 1.5 % of the largest deviation from their mean.
    off = 0.015 * float((largest - largest.mean()).abs().max())
    torch.testing.assert_close(got, wanted, rtol=0, atol=off + 1e-6)
    assert (got.sign() == wanted.sign()).all()


def test_sizes_and_errors_are_told():
    weight = gaussian(512, 1024)
    held = Nf4.of(weight)
    assert 8 * held.n_bytes / weight.numel() == pytest.approx(4 + 8 / BLOCK + 32 / BLOCK / GROUP, abs=0.001)
    error = (held.dequantised(torch.float32) - weight).double()
    assert held.squared_error == pytest.approx(float(error.square().sum()), rel=1e-6)
    assert 0.08 < (held.squared_error / held.squares) ** 0.5 < 0.10


def test_written_into_wider_rows_of_another_type():
    held = Nf4.of(gaussian(50, 40))
    out = torch.full((60, 45), 7.0, dtype=torch.bfloat16)
    held.write(out[4:54, 2:42])
    assert torch.equal(out[4:54, 2:42], held.dequantised(torch.float32).bfloat16())
    assert (out[:4] == 7).all()
    assert (out[:, 42:] == 7).all()


def test_in_pieces_as_at_once(monkeypatch):
    held = Nf4.of(gaussian(130, 72))
    whole = held.dequantised(torch.float32)
    monkeypatch.setitem(PIECES, "cpu", 200)
    assert torch.equal(held.dequantised(torch.float32), whole)


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_constant_weights_stay_what_they_are(value):
    weight = torch.full((4, 64), value)
    assert torch.equal(Nf4.of(weight).dequantised(torch.float32), weight)


def test_blocks_of_zeros_among_others_stay_zero():
    weight = gaussian(6, 64)
    weight[2] = 0
    assert not Nf4.of(weight).dequantised(torch.float32)[2].any()


@each_device
def test_weights_in_4_bits_are_the_same_everywhere(device):
    """Up to how the mean of the magnitudes is rounded."""
    weight = torch.randn(130, 200, generator=torch.Generator().manual_seed(1))
    there, here = Nf4.of(weight.to(chosen(device).where)), Nf4.of(weight)
    assert torch.equal(there.codes.cpu(), here.codes)
    torch.testing.assert_close(there.dequantised(torch.float32).cpu(), here.dequantised(torch.float32), rtol=0.02, atol=1e-6)

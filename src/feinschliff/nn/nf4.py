"""4-bit NormalFloat: how QLoRA holds frozen weights (Dettmers et al. 2023, arXiv 2305.14314).

A weight, row by row, is cut into blocks of 64. A block is held as its largest magnitude and, for each weight, the nearest of 16
levels between -1 and 1 (the quantiles of a normal distribution, appendix E). The largest magnitudes are quantised again: less
their mean, in groups of 256, as the nearest of 256 levels that are finer near zero ("double quantisation"; the levels are
those of bitsandbytes, whose numbers this module gives). 4.13 bits a weight in all.
"""
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
BLOCK = 64  # weights that share a largest magnitude
GROUP = 256  # blocks whose magnitudes are quantised together
# Weights dequantised at once. On a CPU they stay in the cache as float32; elsewhere fewer, larger kernels are started.
PIECES = {"cpu": 1 << 18}
PIECE = 1 << 24


@dataclass(frozen=True, slots=True)
class Nf4:
    """A matrix (N, K) in 4 bits; the last block is filled up with zeros."""

    shape: tuple[int, int]
    codes: Tensor  # uint8, two weights each, the first one in the upper half
    magnitudes: Tensor  # uint8, one a block
    group_scales: Tensor  # float32, one a group
    mean: Tensor  # float32 (), of the magnitudes
    squares: float  # Σ w²
    squared_error: float  # Σ (w' - w)²

    @classmethod
    def of(cls, weight_NK: Tensor) -> "Nf4":
        """Quantise; the errors are summed on the way."""
        n_rows, n_columns = weight_NK.shape
        flat = weight_NK.detach().float().flatten()
        blocks = torch.nn.functional.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
        largest = blocks.abs().amax(1)
        codes = _nearest(_levels(flat.device), blocks / largest.clamp_min(torch.finfo(torch.float32).tiny)[:, None]).flatten()
        mean = largest.mean()
        centred = torch.nn.functional.pad(largest - mean, (0, -len(largest) % GROUP)).view(-1, GROUP)
        group_scales = centred.abs().amax(1)
        scaled = centred / group_scales.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
        magnitudes = _nearest(_fine_levels(flat.device), scaled).flatten()[: len(largest)]
        made = cls((n_rows, n_columns), codes[::2] << 4 | codes[1::2], magnitudes, group_scales, mean, 0.0, 0.0)
        error = made.dequantised(torch.float32).sub_(weight_NK)
        sums = (float(x.double().square().sum()) for x in (flat, error))
        return cls(made.shape, made.codes, magnitudes, group_scales, mean, *sums)

    @property
    def n_bytes(self) -> int:
        return sum(x.numel() * x.element_size() for x in (self.codes, self.magnitudes, self.group_scales, self.mean))

    def dequantised(self, dtype: torch.dtype) -> Tensor:
        """(N, K), each weight rounded once from float32."""
        out = torch.empty(self.shape, dtype=dtype, device=self.codes.device)
        self.write(out)
        return out

    def write(self, out_NK: Tensor) -> None:
        """Fill `out_NK`, whose rows need not follow each other."""
        n_columns = self.shape[1]
        largest = self._largest()
        pairs = _pairs(self.codes.device)
        n_rows = max(1, PIECES.get(self.codes.device.type, PIECE) // n_columns)
        for start in range(0, self.shape[0], n_rows):
            rows = out_NK[start : start + n_rows]
            begin, end = start * n_columns, start * n_columns + rows.numel()
            first, last = begin // BLOCK, -(-end // BLOCK)  # blocks may begin in one row and end in another
            codes = self.codes[first * BLOCK // 2 : last * BLOCK // 2].int()
            values = pairs.index_select(0, codes).view(torch.float32).view(-1, BLOCK).mul_(largest[first:last, None])
            rows.copy_(values.flatten()[begin - first * BLOCK : end - first * BLOCK].view_as(rows))

    def _largest(self) -> Tensor:
        """The largest magnitude of every block, float32."""
        levels = _fine_levels(self.codes.device).index_select(0, self.magnitudes.int())
        return levels.mul_(self.group_scales.repeat_interleave(GROUP)[: len(levels)]).add_(self.mean)


def _nearest(levels: Tensor, x: Tensor) -> Tensor:
    """The index of the level nearest to each of x, uint8."""
    return torch.bucketize(x, (levels[1:] + levels[:-1]) / 2).to(torch.uint8)


@cache
def _levels(device: torch.device) -> Tensor:
    return torch.tensor(LEVELS, device=device)


@cache
def _pairs(device: torch.device) -> Tensor:
    """The two levels of every byte, side by side in the bits of one float64, so that both are fetched at once."""
    levels = _levels(device)
    byte = torch.arange(256, device=device)
    return torch.stack([levels[byte >> 4], levels[byte & 15]], 1).view(torch.float64).flatten()


@cache
def _fine_levels(device: torch.device) -> Tensor:
    """256 levels: in every decade below 1 down to 1e-7 twice as many as in the one below, evenly spaced (Dettmers 2016, arXiv 1511.04561)."""
    levels = [0.0, 1.0]
    for exponent in range(7):
        edges = torch.linspace(0.1, 1, 2**exponent + 1)
        middles = (10.0 ** (exponent - 6) * ((edges[:-1] + edges[1:]) / 2)).tolist()
        levels += [*middles, *(-m for m in middles)]
    return torch.tensor(sorted(levels), device=device)

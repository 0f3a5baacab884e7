"""Which type the exact parts of a computation have beside products in another."""
import torch


def exact_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32 for residuals, sums and trained weights beside bfloat16 or float32 products; float64 in exactness tests."""
    return torch.float64 if dtype == torch.float64 else torch.float32

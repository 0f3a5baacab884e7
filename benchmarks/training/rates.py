"""A program: this machine's matrix-product rates on the model's shapes, as JSON on stdout (GFLOP/s).

    python rates.py MODEL_FOLDER [--tokens 2048]

The time of all of a layer's linear maps (forward) divides their work, so large maps count for more than small ones.
`fp32` is what torch does by default (MKL), `fp32_onednn` the same products through oneDNN.
"""
import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from work import Shape

Product = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    shapes = Shape.of(arguments.model).products()
    ways: dict[str, tuple[torch.dtype, Product]] = {
        "bf16": (torch.bfloat16, F.linear), "fp32": (torch.float32, F.linear), "fp32_onednn": (torch.float32, _onednn),
    }  # fmt: skip
    rates: dict[str, float] = {}
    for name, (dtype, product) in ways.items():
        try:
            rates[name] = round(_rate(shapes, arguments.tokens, dtype, product, arguments.repeats, arguments.device) / 1e9, 1)
        except (AttributeError, RuntimeError, NotImplementedError) as error:  # a build without oneDNN
            print(f"no {name}: {error}", flush=True)
    print(json.dumps({"gflops": rates, "threads": torch.get_num_threads(), "torch": torch.__version__}))


def _onednn(x: Tensor, weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


@torch.no_grad()
def _rate(shapes: list[tuple[int, int]], tokens: int, dtype: torch.dtype, product: Product, repeats: int, device: str) -> float:
    """Floating-point operations per second over one pass through `shapes`, median of `repeats` passes."""
    settle = torch.cuda.synchronize if device == "cuda" else torch.cpu.synchronize
    pairs = [(torch.randn(tokens, i, dtype=dtype, device=device), torch.randn(o, i, dtype=dtype, device=device)) for i, o in shapes]
    times = []
    for _ in range(repeats + 2):
        t0 = time.perf_counter()
        for x, weight in pairs:
            product(x, weight)
        settle()
        times.append(time.perf_counter() - t0)
    return sum(2.0 * tokens * i * o for i, o in shapes) / statistics.median(times[2:])


if __name__ == "__main__":
    main()

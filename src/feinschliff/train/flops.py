"""How much arithmetic an optimizer step needs: the count behind "achieved matrix-product rate"."""
from typing import assert_never

from feinschliff.core.jobs import Full, Lora, Method
from feinschliff.train.shape import Linear, ModelShape


def step_flops(shape: ModelShape, method: Method, *, computed_tokens: int, trained_rows: int) -> int:
    """Floating-point operations (a multiply-add is two) of the matrix products with weights in one optimizer step.

    Forward 2 · parameters · tokens. Backward the same again for the gradient of the inputs, and once more for the gradient
    of the weights: of all weights in full fine-tuning, of A and B alone with LoRA. The head counts on trained rows only.
    Not counted: attention (its cost depends on the tree, it is 5 to 15 % here), norms, the optimizer, layers that are
    recomputed, the zeros between stacked adapters (nn.linear). The first layer's input gradient is counted although LoRA
    does not need it: one of dozens of layers.
    """
    body = sum(_per_token(linear, method) for linear in shape.linears)
    head = 2 * shape.hidden * shape.vocabulary * (3 if isinstance(method, Full) else 2)
    return body * computed_tokens + head * trained_rows


def _per_token(linear: Linear, method: Method) -> int:
    base = 2 * linear.n_in * linear.n_out
    match method:
        case Full():
            return 3 * base
        case Lora():
            adapted = method.targets == "all-linear" or linear.leaf in method.targets
            low = 2 * method.rank * (linear.n_in + linear.n_out) if adapted else 0
            return 2 * base + 3 * low  # x·Aᵀ·Bᵀ; both gradients; the input's gradient through both
        case _:
            assert_never(method)

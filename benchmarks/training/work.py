"""How much arithmetic a training step needs."""
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StepWork:
    """One optimizer step, counted two ways: every example alone, and with common prefixes computed once.

    A pair is one query token and one key token that it attends to (its own included).
    """

    examples: int
    trained_tokens: int
    longest: int  # tokens of the longest example
    logical_tokens: int
    logical_pairs: int
    shared_tokens: int
    shared_pairs: int


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a Llama-shaped model the count depends on."""

    layers: int
    hidden: int
    heads_width: int  # all query heads together
    kv_width: int
    inner: int
    vocabulary: int

    @classmethod
    def of(cls, model_folder: Path) -> "Shape":
        c = json.loads((model_folder / "config.json").read_text(encoding="utf-8"))
        head = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
        return cls(
            layers=c["num_hidden_layers"], hidden=c["hidden_size"], heads_width=c["num_attention_heads"] * head,
            kv_width=c["num_key_value_heads"] * head, inner=c["intermediate_size"], vocabulary=c["vocab_size"],
        )  # fmt: skip

    def products(self) -> list[tuple[int, int]]:
        """(in, out) of a layer's linear maps."""
        d, q, kv, f = self.hidden, self.heads_width, self.kv_width, self.inner
        return [(d, q), (d, kv), (d, kv), (q, d), (d, f), (d, f), (f, d)]


def needed_flops(shape: Shape, *, tokens: int, pairs: int, trained_tokens: int, rank: int) -> float:
    """Floating-point operations of one LoRA step (a multiplication and an addition are two), and no more than it needs.

    Frozen products: forward and the gradient of their input, 4 per weight and token. Adapters: their own gradient too, 6.
    Head: trained tokens only, 4. Attention: two products forward and five backward, as flash attention does them
    (Dao 2023, arXiv 2307.08691, section 4.1), causal halves only. What a system computes beyond that earns it nothing.
    """
    frozen = sum(i * o for i, o in shape.products())
    adapters = sum(rank * (i + o) for i, o in shape.products())
    linear = shape.layers * (4.0 * frozen + 6.0 * adapters) * tokens
    head = 4.0 * shape.hidden * shape.vocabulary * trained_tokens
    attention = 3.5 * 4.0 * shape.heads_width * shape.layers * pairs
    return linear + head + attention

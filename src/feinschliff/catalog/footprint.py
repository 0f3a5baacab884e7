"""What training takes in memory, from a model's published sizes alone: before anything is downloaded.

`train.memory` measures the same on the loaded model when a job starts; this is its forecast, tensor by tensor as the layers of
`nn` keep them. `benchmarks/fit.py` compares it with measured peaks.
"""
from dataclasses import dataclass
from typing import assert_never

from feinschliff.catalog.facts import Architecture
from feinschliff.core.jobs import Full, Lora, Method

PROCESS = 450_000_000  # bytes resident once torch and transformers are imported (CPU build of torch 2.13)
WORKSPACE = 64_000_000  # of matrix products and generated code
SLACK = {False: 1.33, True: 1.6}  # resident over live bytes, without and with recomputed layers: the heap's holes
NF4 = 0.516  # bytes a weight, with its blocks' magnitudes (nn.nf4)
CHUNK = 128  # trained rows whose logits exist at once
ROWS, TILE = 128, 1 << 23  # queries of a block, and scores, that nn.blocks has at once
NAMES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # of Architecture.projections


@dataclass(frozen=True, slots=True)
class Passes:
    """How a job is computed: `tokens` in one forward pass, `rows` of them trained, products of `width` bytes a number."""

    tokens: int
    rows: int
    width: int = 4  # 2: bfloat16
    recomputed: bool = False
    longest: int | None = None  # path that attends, of tokens; None: all of them are one
    several: bool = False  # passes in an optimizer step: the gradients of the first are there while the second computes


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes at the peak of a training process."""

    process: int
    weights: int
    held: int  # the optimizer's two moments, and gradients where a step takes several passes
    activations: int  # of one pass, with the heap's holes; or the gradients that take their place in the backward pass

    @property
    def total(self) -> int:
        return self.process + self.weights + self.held + self.activations


def needs(a: Architecture, method: Method, passes: Passes, *, mapped: bool = False) -> Needs:
    """`mapped`: the weights file holds float32, so that it stays mapped beside what is made of it."""
    trained = trained_parameters(a, method)
    activations = int(SLACK[passes.recomputed] * _live(a, method, passes))
    return Needs(
        process=PROCESS + WORKSPACE,
        weights=_weights(a, method, passes, mapped=mapped),
        held=(12 if passes.several else 8) * trained,
        activations=activations if passes.several else max(activations, 4 * trained),
    )


def load_peak(a: Architecture) -> int:
    """Bytes while a model is read: all of it in float32, until its layers are put into the products' type."""
    return PROCESS + 4 * (a.linear_parameters + a.embedding_parameters)


def trained_parameters(a: Architecture, method: Method) -> int:
    """LoRA adds A (rank, in) and B (out, rank) to each projection it names; DoRA a length for each of its outputs, too."""
    match method:
        case Full():
            return a.linear_parameters + a.embedding_parameters
        case Lora():
            named = NAMES if method.targets == "all-linear" else method.targets
            adapted = [p for name, p in zip(NAMES, a.projections, strict=True) if name in named]
            lengths = sum(n_out for n_out, _ in adapted) if method.dora else 0
            return a.layers * (method.rank * sum(map(sum, adapted)) + lengths)
        case _:
            assert_never(method)


def _weights(a: Architecture, method: Method, passes: Passes, *, mapped: bool) -> int:
    embedding, head = 4 * a.hidden * a.vocabulary, passes.width * a.hidden * a.vocabulary
    match method:
        case Full():
            return 4 * (a.linear_parameters + a.embedding_parameters)
        case Lora():
            adapters = trained_parameters(a, method)
            base = NF4 if method.kind == "qlora" else passes.width
            frozen = int(base * a.linear_parameters) + passes.width * 2 * adapters  # A and the scaled B are in the products' type
            own_head = head if passes.width < 4 or not a.tied else 0
            file = 4 * (a.linear_parameters + a.embedding_parameters) if mapped else embedding
            return frozen + own_head + file + 4 * adapters
        case _:
            assert_never(method)


def _live(a: Architecture, method: Method, p: Passes) -> int:
    """Bytes of tensors at the height of a pass: where the head is computed, or in the backward pass of a layer's two halves."""
    w, f, q, kv = p.width, a.intermediate, a.heads * a.head_dim, a.kv_heads * a.head_dim
    full, lean = isinstance(method, Full), isinstance(method, Lora) and a.fused
    kept = _kept(a, method, p)
    stack = a.layers * (4 * a.hidden if p.recomputed else kept)
    layer = stack + (kept if p.recomputed else 0)
    in_mlp = p.tokens * (layer + (5 * w * f + 12 * a.hidden if lean else 3 * w * f + 8 * a.hidden))
    scores = 2 * w * min(TILE, a.heads * ROWS * (p.longest or p.tokens))  # and their gradients
    freed = w * (2 * f + a.hidden if lean else 4 * f + 2 * a.hidden)  # the MLP's part of what was kept
    in_attention = p.tokens * (layer - freed + w * (4 * q + 2 * kv) + 8 * kv) + scores
    head = min(p.rows, CHUNK) * a.vocabulary * (4 + w)
    if full:
        head += a.vocabulary * a.hidden * (8 + (w if w < 4 else 0))  # the head's gradient, made twice, and its cast
    casts = w * a.linear_parameters if full and w < 4 else 0
    rows = p.rows * a.hidden * (4 + w)
    return max(in_mlp, in_attention, p.tokens * stack + head) + rows + (casts // a.layers if p.recomputed else casts)


def _kept(a: Architecture, method: Method, p: Passes) -> int:
    """Bytes that one layer keeps of one token for the backward pass; 4-byte residuals, products of `width` bytes."""
    d, f, q, kv, w = a.hidden, a.intermediate, a.heads * a.head_dim, a.kv_heads * a.head_dim, p.width
    match method:
        case Full():  # plain layers: both norms' inner and outer values, and a cast of each product's input
            inputs = 8 * d if w == 4 else 5 * w * d
            norms = 0 if a.fused else 8 * (q + kv)  # of query and key
            return 16 * d + inputs + norms + w * (2 * q + 2 * kv + 4 * f)
        case Lora() if a.fused:  # nn.fused
            return 8 * d + w * (2 * d + 3 * q + 2 * kv + 2 * f + 7 * method.rank)
        case Lora():  # plain layers around nn.linear.Projection, with norms of query and key
            return 8 * d + w * (5 * d + 4 * q + 3 * kv + 4 * f + 7 * method.rank)
        case _:
            assert_never(method)

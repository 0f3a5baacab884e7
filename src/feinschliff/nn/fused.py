"""A leaner decoder layer for the Llama-shaped families (Llama, SmolLM2, Mistral, Qwen 2, Phi-3), equal in result.

Much of a plain layer's time outside the matrix products goes into reading and writing activations: normalising, rotating,
gating, adding. Here each half of a layer is one or two functions with hand-written backward passes that

- multiply query, key and value (gate and up) in one product over one input (nn.linear.Product),
- write a product's input straight into the place the product reads it from,
- add to the float32 residual once, and keep only what the backward pass cannot cheaply make again.

`fuse` looks at structure, not at names of families, and keeps the plain layer unless both give the same numbers.
"""
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from feinschliff.core.chat import Rendered
from feinschliff.nn.attention import Attend, TreeAttend
from feinschliff.nn.linear import Product, Projection
from feinschliff.nn.native import rows
from feinschliff.nn.norm import RmsNorm, normalise_backward, normalise_into
from feinschliff.nn.swap import swap
from feinschliff.nn.tree import Packed, pack

PROBE = 8  # tokens


@dataclass(frozen=True, slots=True)
class Shape:
    """What a plain layer was seen to ask of its attention."""

    scale: float
    window: int | None


class FusedLayer(nn.Module):
    """Takes over the submodules of a plain layer, so that parameters keep their names."""

    def __init__(self, layer: nn.Module, shape: Shape) -> None:
        super().__init__()
        self._shape = shape
        self.self_attn, self.mlp = layer.get_submodule("self_attn"), layer.get_submodule("mlp")
        self.input_layernorm, self.post_attention_layernorm = (
            cast(RmsNorm, layer.get_submodule(name)) for name in ("input_layernorm", "post_attention_layernorm")
        )
        self._qkv = _product(self.self_attn, "qkv_proj", ("q_proj", "k_proj", "v_proj"))
        self._gate_up = _product(self.mlp, "gate_up_proj", ("gate_proj", "up_proj"))
        self._out, self._down = _product(self.self_attn, "o_proj"), _product(self.mlp, "down_proj")
        self._layer, self._head_dim = cast(int, self.self_attn.layer_idx), cast(int, self.self_attn.head_dim)
        self._n_heads = self._out.n_in // self._head_dim

    @override
    def forward(
        self, hidden_states: Tensor, *, position_embeddings: tuple[Tensor, Tensor], attend: Attend, **_: object
    ) -> Tensor:
        """(1, T, D) → (1, T, D), float32."""
        x = hidden_states[0]
        cos, sin = (e[0, :, None, : self._head_dim // 2] for e in position_embeddings)
        norm = self.input_layernorm
        q, k, v = _Enter.apply(
            x, norm.weight, norm.eps, self._qkv, cos, sin, self._n_heads, self._head_dim, *self._qkv.parameters()
        )
        heads = attend(
            self._layer, *(h.transpose(0, 1) for h in (q, k, v)),
            scale=self._shape.scale, window=self._shape.window, softcap=None,
        )  # fmt: skip
        x = _Leave.apply(x, heads.flatten(1), self._out, *self._out.parameters())
        norm = self.post_attention_layernorm
        parameters = *self._gate_up.parameters(), *self._down.parameters()
        x = _GatedMlp.apply(x, norm.weight, norm.eps, self._gate_up, self._down, *parameters)
        return x[None]


class _Enter(torch.autograd.Function):
    """x (T, D) → normalised, multiplied, rotated: q (T, H, d), k and v (T, Hk, d)."""

    @staticmethod
    @override
    def forward(  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        ctx: Any, x: Tensor, weight: Tensor, eps: float, product: Product, cos: Tensor, sin: Tensor, n_heads: int, head_dim: int, *_: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        both, rstd = _normalised_input(x, weight, eps, product)
        y, kept = product(both)
        qkv = y.view(x.shape[0], -1, head_dim)
        n_keys = (qkv.shape[1] - n_heads) // 2
        ctx.save_for_backward(x, weight, rstd, both, kept, cos, sin)
        ctx.product = product
        rotated = rotate(qkv[:, : n_heads + n_keys], cos, sin)
        return rotated[:, :n_heads], rotated[:, n_heads:], qkv[:, n_heads + n_keys :]

    @staticmethod
    @override
    def backward(ctx: Any, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Tensor | None, ...]:  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        x, weight, rstd, both, kept, cos, sin = ctx.saved_tensors
        n_heads, n_keys = dq.shape[1], dk.shape[1]
        d_qkv = dq.new_empty(dq.shape[0], n_heads + 2 * n_keys, dq.shape[2])
        rotate(dq, cos, sin, out=d_qkv[:, :n_heads], turn=-1.0)
        rotate(dk, cos, sin, out=d_qkv[:, n_heads : n_heads + n_keys], turn=-1.0)
        d_qkv[:, n_heads + n_keys :] = dv
        dy, grads = ctx.product.backward(d_qkv.flatten(1), both, kept, need_dx=ctx.needs_input_grad[0])
        dx = None if dy is None else normalise_backward(dy, x, weight, rstd)
        return dx, None, None, None, None, None, None, None, *grads


class _Leave(torch.autograd.Function):
    """x (T, D) + product of the attended heads (T, H·d)."""

    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, heads: Tensor, product: Product, *_: Tensor) -> Tensor:  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        both = product.widen(heads)
        y, kept = product(both)
        ctx.save_for_backward(both, kept)
        ctx.product = product
        return _add(x, y)

    @staticmethod
    @override
    def backward(ctx: Any, dx: Tensor) -> tuple[Tensor | None, ...]:  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        both, kept = ctx.saved_tensors
        d_heads, grads = ctx.product.backward(dx.to(both.dtype), both, kept)
        return dx, d_heads, None, *grads


class _GatedMlp(torch.autograd.Function):
    """x (T, D) + down(silu(gate(y)) · up(y)), y = normalised x."""

    @staticmethod
    @override
    def forward(  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        ctx: Any, x: Tensor, weight: Tensor, eps: float, gate_up: Product, down: Product, *_: Tensor
    ) -> Tensor:
        both, rstd = _normalised_input(x, weight, eps, gate_up)
        hidden, kept = gate_up(both)
        wide = down.room(x.shape[0])
        _gate(hidden, wide[:, : down.n_in])
        down.fill(wide)
        low = wide[:, down.n_in :].contiguous()  # the gated product itself is made again in the backward pass
        y, kept_down = down(wide)
        ctx.save_for_backward(x, weight, rstd, both, kept, hidden, low, kept_down)
        ctx.gate_up, ctx.down = gate_up, down
        return _add(x, y)

    @staticmethod
    @override
    def backward(ctx: Any, dx_out: Tensor) -> tuple[Tensor | None, ...]:  # pyrefly: ignore[bad-override] – torch passes on what apply() was given
        x, weight, rstd, both, kept, hidden, low, kept_down = ctx.saved_tensors
        gate_up: Product = ctx.gate_up
        down: Product = ctx.down
        back = down.back(dx_out.to(both.dtype), kept_down)
        assert back.dx_TK is not None
        gated, d_both = _gate_backward(back.dx_TK, hidden)
        down_grads = down.grads(back, gated, low)
        dy, grads = gate_up.backward(d_both, both, kept)
        assert dy is not None
        dx = normalise_backward(dy, x, weight, rstd, past=dx_out)
        return dx, None, None, None, None, *grads, *down_grads


def _normalised_input(x: Tensor, weight: Tensor, eps: float, product: Product) -> tuple[Tensor, Tensor]:
    both = product.room(x.shape[0])
    rstd = normalise_into(x, weight, eps, both[:, : product.n_in])
    return product.fill(both), rstd


def _add(x: Tensor, part: Tensor) -> Tensor:
    """x + part, in the type of x."""
    kernels = rows.row_kernels(part.dtype, x.device, x.shape[1]) if x.dtype == torch.float32 else None
    return x + part if kernels is None else rows.add(kernels, x, part)


def _gate(hidden: Tensor, out: Tensor) -> None:
    """hidden (T, 2n), gate beside up → silu(gate) · up into `out` (T, n)."""
    kernels = rows.row_kernels(hidden.dtype, hidden.device, out.shape[1])
    if kernels is not None:
        return rows.gate_into(kernels, hidden, out)
    gate, up = hidden.chunk(2, 1)
    torch.mul(F.silu(gate), up, out=out)


def _gate_backward(d_gated: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """The gated product again, in the place of its gradient, which is used up; and the gradient of `hidden`."""
    kernels = rows.row_kernels(hidden.dtype, hidden.device, d_gated.shape[1])
    if kernels is not None:
        return d_gated, rows.gate_backward(kernels, d_gated, hidden)
    gate, up = hidden.chunk(2, 1)
    gated, d_hidden = F.silu(gate), torch.empty_like(hidden)
    d_gate, d_up = d_hidden.chunk(2, 1)
    torch.mul(d_gated, gated, out=d_up)
    torch.ops.aten.silu_backward.grad_input(d_gated.mul_(up), gate, grad_input=d_gate)
    return gated.mul_(up), d_hidden


def rotate(x_THd: Tensor, cos_T1h: Tensor, sin_T1h: Tensor, out: Tensor | None = None, *, turn: float = 1.0) -> Tensor:
    """Rotary position embedding (Su et al. 2021, arXiv 2104.09864), halves paired; h = d/2. The backward has `turn` -1."""
    out = torch.empty_like(x_THd) if out is None else out
    kernels = rows.row_kernels(x_THd.dtype, x_THd.device, x_THd.shape[-1] // 2) if cos_T1h.dtype == torch.float32 else None
    if kernels is not None and x_THd.stride()[1:] == (x_THd.shape[-1], 1):
        rows.rotate(kernels, x_THd, cos_T1h, sin_T1h, out, turn=turn)
        return out
    sin_T1h = sin_T1h * turn
    first, second = x_THd.to(cos_T1h.dtype).chunk(2, -1)
    half = first.shape[-1]
    out[..., :half] = (first * cos_T1h).addcmul_(second, sin_T1h, value=-1)
    out[..., half:] = (second * cos_T1h).addcmul_(first, sin_T1h)
    return out


def _product(module: nn.Module, whole: str, parts: Sequence[str] = ()) -> Product:
    """The product of `whole`, where the family has such a layer (Phi-3 stores them stacked), else of `parts`, joined."""
    if hasattr(module, whole):
        return cast(Projection, module.get_submodule(whole)).product
    return Product.join([cast(Projection, module.get_submodule(name)) for name in parts])


def observe(body: nn.Module) -> list[Shape] | None:
    """The shapes of a plain decoder's layers, or None where a fused layer would not do the same.

    Runs a few tokens through the plain model, and through a fused copy of its first layer: what is equal is decided by
    numbers, not by the names of families.
    """
    layers = getattr(body, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not all(_fits(layer) for layer in layers):
        return None
    watch = _Watch(pack([Rendered(list(range(PROBE)), [0.0] * (PROBE - 1) + [1.0])]))
    seen: list[tuple[Tensor, dict[str, Any], Tensor]] = []

    def note(_: nn.Module, args: tuple[Tensor], kwargs: dict[str, Any], out: Tensor) -> None:
        seen.append((args[0], kwargs, out))

    hook = layers[0].register_forward_hook(note, with_kwargs=True)
    try:
        with torch.no_grad():
            packed = watch.tree.packed
            body(input_ids=packed.tokens_T[None], position_ids=packed.positions_T[None], use_cache=False, attend=watch)
    finally:
        hook.remove()
    (x, kwargs, wanted), asked = seen[0], list(watch.asked)
    rotary = kwargs.get("position_embeddings")
    whole = isinstance(rotary, tuple) and rotary[0].shape[-1] == getattr(layers[0].self_attn, "head_dim", None)
    if not whole or any(softcap is not None for _, softcap in asked):  # Phi-4-mini rotates a part of each head
        return None
    shapes = [shape for shape, _ in asked]
    layer = copy.deepcopy(layers[0])
    swap(layer, x.dtype, trainable=False)
    with torch.no_grad():
        ours = FusedLayer(layer, shapes[0])(x, **kwargs)
    close = torch.allclose(ours, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    return shapes if close else None


def fuse(body: nn.Module, shapes: Sequence[Shape]) -> None:
    """Put fused layers in place of the plain ones of `body`, whose linear layers and norms are ours already."""
    layers = body.layers
    assert isinstance(layers, nn.ModuleList)
    for i, shape in enumerate(shapes):
        layers[i] = FusedLayer(layers[i], shape)


class _Watch:
    """Attends over the probe, and notes what each layer asked for."""

    def __init__(self, packed: Packed) -> None:
        self.tree = TreeAttend(packed)
        self.asked: list[tuple[Shape, float | None]] = []

    def __call__(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None, softcap: float | None
    ) -> Tensor:
        self.asked.append((Shape(scale, window), softcap))
        return self.tree(layer, q, k, v, scale=scale, window=window, softcap=softcap)


def _fits(layer: nn.Module) -> bool:
    """Exactly two norms, an attention of q, k, v (or qkv) and o, and a gated MLP; nothing else that has weights."""
    stacked = {"self_attn.qkv_proj", "mlp.gate_up_proj"}
    parts = {f"self_attn.{x}_proj" for x in "qkv"} | {"mlp.gate_proj", "mlp.up_proj"}
    common = {"self_attn.o_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm"}
    return {name.rpartition(".")[0] for name, _ in layer.named_parameters()} in (stacked | common, parts | common)

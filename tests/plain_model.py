"""The oracle: examples one by one, without packing, through transformers' own model with PEFT's own adapter."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from hypothesis import strategies as st
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from feinschliff.core.chat import Rendered
from feinschliff.core.jobs import Lora, TrainSpec
from feinschliff.nn import adapter
from feinschliff.nn.tree import Packed, pack
from feinschliff.train.device import ON_CPU, Device
from feinschliff.train.model import Trainable

METHOD = Lora(rank=4, alpha=8.0)


@dataclass
class Pair:
    """The same weights and the same adapter, in our model and, on the CPU, in transformers + PEFT."""

    ours: Trainable
    plain: PeftModel


def make_pair(
    model: Path, scratch: Path, dtype: torch.dtype, *, attention: str = "eager", device: Device = ON_CPU
) -> Pair:
    spec = TrainSpec(model=str(model), train_files=("unused",), method=METHOD)
    ours = Trainable.make(spec, model, dtype, device=device)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, projection in ours.decoder.projections():
            projection.lora_B.copy_(torch.randn(projection.lora_B.shape, generator=generator) * 0.1)
        for p in ours.parameters().values():
            p.copy_(p.float())  # what the file holds
    ours.after_update()
    exact = adapter.current(ours.decoder)
    adapter.save(scratch, exact, METHOD, str(model))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    base = AutoModelForCausalLM.from_pretrained(str(model), dtype=wide, attn_implementation=attention)
    if wide == torch.float64:
        _norms_in_float64(base)
    plain = PeftModel.from_pretrained(base, str(scratch), is_trainable=True, autocast_adapter_dtype=False).to(wide)
    return Pair(ours, plain.eval())


def _norms_in_float64(model: nn.Module) -> None:
    """transformers' RMSNorms round to float32 whatever they are given; torch's own do not."""
    for name, module in list(model.named_modules()):
        if type(module).__name__.endswith("RMSNorm"):
            gemma = type(module).__name__.startswith("Gemma")
            eps = module.eps if hasattr(module, "eps") else module.variance_epsilon
            exact = nn.RMSNorm(module.weight.shape[0], eps=eps, dtype=torch.float64)
            exact.weight.data.copy_(module.weight.data + 1 if gemma else module.weight.data)
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, exact.requires_grad_(False))


def packed_result(model: Trainable, examples: Sequence[Rendered], **options: object) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of the whole prefix tree."""
    parameters = model.parameters()
    for p in parameters.values():
        p.grad = None
    loss, _ = model.loss(pack(examples, **options))
    loss.backward()
    return loss.item(), {name: _gradient(p) for name, p in parameters.items()}


def separate_result(plain: nn.Module, examples: Sequence[Rendered]) -> tuple[float, dict[str, Tensor]]:
    """Sum of the examples' losses, each computed alone, and its gradients."""
    plain.zero_grad(set_to_none=True)
    total = 0.0
    for example in examples:
        tokens = torch.tensor(example.tokens)
        logits = plain(input_ids=tokens[None], use_cache=False).logits[0, :-1]
        nll = torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="none")
        loss = (nll * torch.tensor(example.weights[1:], dtype=nll.dtype)).sum()
        loss.backward()
        total += loss.item()
    return total, {_own_name(n): _gradient(p) for n, p in plain.named_parameters() if p.requires_grad}


def _gradient(p: Tensor) -> Tensor:
    return torch.zeros_like(p).cpu() if p.grad is None else p.grad.clone().cpu()


def _own_name(name: str) -> str:
    return name.removeprefix("base_model.model.model.").removeprefix("model.").replace(".default.weight", "")


def difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest error of any gradient, relative to the largest gradient."""
    assert ours.keys() == theirs.keys()
    largest = max(float(g.abs().max()) for g in theirs.values())
    return max(float((ours[n].double() - theirs[n].double()).abs().max()) for n in theirs) / max(largest, 1e-12)


@st.composite
def families_of_examples(draw: st.DrawFn, longest: int = 40) -> list[Rendered]:
    """Examples that branch off from each other at random places, some identical, some a beginning of another."""
    token = st.integers(5, 200)
    texts: list[list[int]] = []
    for _ in range(draw(st.integers(1, 6))):
        parent = draw(st.sampled_from(texts)) if texts else []
        shared = parent[: draw(st.integers(0, len(parent)))]
        texts.append((shared + draw(st.lists(token, min_size=0 if len(shared) > 1 else 2, max_size=12)))[:longest])
    examples = [
        Rendered(t, draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(t), max_size=len(t)))) for t in texts
    ]
    return [*examples, Rendered([*texts[0], 7], [0.0] * len(texts[0]) + [1.0])]  # something is always trained


def by_mask(q: Tensor, k: Tensor, v: Tensor, packed: Packed, scale: float, window=None, softcap=None, before: int = 0) -> Tensor:
    """Plain attention by a mask over all pairs: q (H, T, d), k and v (Hk, before + T, d) → (T, H, d)."""
    k, v = (x.repeat_interleave(q.shape[0] // k.shape[0], 0) for x in (k, v))
    scores = q @ k.transpose(1, 2) * scale
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    return (scores.masked_fill(~seen(packed, window, before), float("-inf")).softmax(-1) @ v).transpose(0, 1)


def seen(packed: Packed, window: int | None, before: int) -> Tensor:
    """(T, before + T) bool: which rows see which keys, the first `before` of which stand before every path."""
    ahead = packed.positions_T[:, None] - torch.arange(-before, 0) < (window or 1 << 60)
    return torch.cat([ahead, packed.dense_mask(window)], 1)

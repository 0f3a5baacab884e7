"""A decoder that transformers loads, made ready for packed trees, mixed precision and adapters."""
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from feinschliff.core.errors import ModelUnavailable
from feinschliff.core.jobs import Library
from feinschliff.nn import attention, fused
from feinschliff.nn.attention import Attend
from feinschliff.nn.blocks import CPU
from feinschliff.nn.frozen import Quantised
from feinschliff.nn.linear import Product, Projection
from feinschliff.nn.multiply import through
from feinschliff.nn.precision import exact_dtype
from feinschliff.nn.swap import swap


@dataclass(slots=True)
class Decoder:
    """`body` maps tokens to final hidden states; `head` (V, D) maps those to logits.

    Products run in `dtype`; the residual stream stays float32 (float64 in exactness tests).
    """

    body: nn.Module
    head: Tensor
    dtype: torch.dtype
    softcap: float | None  # of the final logits
    window: int | None  # sliding attention window, where the model has one
    occupant: object = None  # whose adapter is in place, where several are trained on this one base

    def hidden(self, tokens_T: Tensor, positions_T: Tensor, attend: Attend) -> Tensor:
        """(T,) ids and positions → (T, D) states after the final norm."""
        out = self.body(
            input_ids=tokens_T[None], position_ids=positions_T[None], use_cache=False, attend=attend
        )
        states: Tensor = out.last_hidden_state[0]
        return states

    def logits(self, hidden_RD: Tensor) -> Tensor:
        """(R, D) → (R, V) float32."""
        logits = (hidden_RD.to(self.dtype) @ self.head.to(self.dtype).t()).float()
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def projections(self) -> Iterator[tuple[str, Projection]]:
        """The frozen linear layers with their full names, as adapters are saved under."""
        for name, module in self.body.named_modules():
            if isinstance(module, Projection):
                yield f"model.{name}", module

    @property
    def quantisation_error(self) -> float | None:
        """|W' - W| / |W| over all weights that are held in 4 bits as W'; None where there are none."""
        held = [p.frozen for p in self.products()]
        parts = [part for frozen in held if isinstance(frozen, Quantised) for part in frozen.parts]
        return (sum(p.squared_error for p in parts) / sum(p.squares for p in parts)) ** 0.5 if parts else None

    def products(self) -> list[Product]:
        """The matrix products behind the projections, each once, however many of them it serves."""
        return list({id(p.product): p.product for _, p in self.projections()}.values())


def load(
    folder: Path, *, dtype: torch.dtype, trainable: bool, fast: bool = True, library: Library = "blas", quantised: bool = False,
    device: torch.device = CPU,
) -> Decoder:
    """Load a model folder. `trainable`: all weights (full fine-tuning); otherwise all frozen, ready for adapters.

    `fast=False` keeps the family's own layers where fused ones would give the same, for comparison. `library` makes the
    float32 products with frozen weights. `quantised`: the frozen linear layers are held in 4 bits; embeddings and head are not.
    It is read and looked at on the CPU, and comes to `device` layer by layer.

    Raises ModelUnavailable where the folder is not one that transformers can read as a causal language model.
    """
    attention.install()
    transformers_logging.disable_progress_bar()
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=exact_dtype(dtype), attn_implementation=attention.NAME, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{folder} cannot be loaded: {error}", hint="Is it a complete model folder?") from error
    model.requires_grad_(trainable)
    shapes = None if trainable or not fast else fused.observe(model.base_model)
    swap(model.base_model, dtype, trainable=trainable, multiply=through(library, dtype), quantised=quantised, device=device)
    if shapes:
        fused.fuse(model.base_model, shapes)
    output = model.get_output_embeddings()
    assert isinstance(output, nn.Linear)  # every causal language model has one
    head = output.to(device).weight
    return Decoder(
        body=model.base_model,
        head=head if trainable else head.detach().to(dtype),
        dtype=dtype,
        softcap=getattr(model.config, "final_logit_softcapping", None),
        window=getattr(model.config, "sliding_window", None) if getattr(model.config, "use_sliding_window", True) else None,
    )


def fast_dtype() -> torch.dtype:
    """bfloat16 where this processor multiplies it in hardware, else float32."""
    has_units = "avx512_bf16" in _cpu_flags() or "amx_bf16" in _cpu_flags()
    return torch.bfloat16 if has_units else torch.float32


def _cpu_flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""

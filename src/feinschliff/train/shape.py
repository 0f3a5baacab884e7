"""The sizes of a model, read from its config alone: what FLOP counts, measurements and rules of thumb need before loading."""
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from feinschliff.core.errors import ModelUnavailable


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer of the body; `leaf` is the last part of its name, as LoRA targets are given."""

    leaf: str
    n_out: int
    n_in: int


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder's linear layers in order (the head apart), and its other sizes."""

    linears: tuple[Linear, ...]
    hidden: int
    vocabulary: int
    parameters: int
    family: str  # config.json's model_type

    @classmethod
    def of(cls, folder: Path) -> "ModelShape":
        """Read from `folder`'s config: the model is built without memory for its weights.

        Experts that are not linear layers of their own (mixtures that keep them in one tensor) are not seen.
        Raises ModelUnavailable where transformers knows no causal language model for the config.
        """
        try:
            config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
            with torch.device("meta"):
                model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
        except (OSError, ValueError) as error:
            raise ModelUnavailable(f"{folder} cannot be loaded: {error}", hint="Is it a complete model folder?") from error
        head = model.get_output_embeddings()
        assert isinstance(head, nn.Linear)  # every causal language model has one
        return cls(
            linears=tuple(
                Linear(name.rsplit(".", 1)[-1], module.out_features, module.in_features)
                for name, module in model.base_model.named_modules()
                if isinstance(module, nn.Linear)
            ),
            hidden=head.in_features,
            vocabulary=head.out_features,
            parameters=sum(p.numel() for p in model.parameters()),
            family=str(config.model_type),
        )

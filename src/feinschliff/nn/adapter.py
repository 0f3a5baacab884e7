"""LoRA and DoRA adapters in PEFT's folder format: adapter_config.json and adapter_model.safetensors, readable by both sides."""
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from feinschliff.core.errors import BadStudy, ModelUnavailable
from feinschliff.core.jobs import Lora
from feinschliff.nn.linear import Projection
from feinschliff.nn.model import Decoder


class Matrices(NamedTuple):
    """What is trained for one projection."""

    a: Tensor  # (rank, in)
    b: Tensor  # (out, rank)
    magnitude: Tensor | None = None  # (out,), of DoRA


Adapter = Mapping[str, Matrices]  # by full module name
_PREFIX = "base_model.model."
_MAGNITUDE = ".lora_magnitude_vector"
# PEFT options that change what the two matrices mean, or add others; ignoring them would silently answer otherwise.
_UNSUPPORTED = ("rank_pattern", "alpha_pattern", "modules_to_save", "fan_in_fan_out", "trainable_token_indices")


def add(decoder: Decoder, method: Lora, seed: int) -> None:
    """Give every targeted projection a fresh adapter, reproducible by `seed`."""
    generator = torch.Generator().manual_seed(seed)
    found = False
    for name, projection in decoder.projections():
        if method.targets == "all-linear" or name.rsplit(".", 1)[-1] in method.targets:
            projection.add_adapter(method.rank, method.scale, generator, dora=method.dora)
            found = True
    if not found:
        names = sorted({name.rsplit(".", 1)[-1] for name, _ in decoder.projections()})
        raise BadStudy(
            f"No layer of the model matches the LoRA targets {list(method.targets)}.",
            hint=f'Use "all-linear" or some of: {", ".join(names)}.',
        )


def start_from(decoder: Decoder, folder: Path) -> None:
    """Give the fresh adapter in the model the weights of the one in `folder`, which must have the same form. Raises BadStudy."""
    found, scale = read(folder)
    fresh = {place.name: place for place in places(decoder)}
    if found.keys() != fresh.keys():
        raise BadStudy(
            f"The adapter in {folder} is on other layers than this run's.", hint="Train with the targets that it was trained with."
        )
    for name, place in fresh.items():
        kept = {key: value for key, value in zip(("lora_A", "lora_B", "lora_magnitude_vector"), found[name], strict=True) if value is not None}
        shapes = {key: value.shape for key, value in kept.items()}
        if shapes != {key: p.shape for key, p in place.parameters.items()} or abs(scale - place.scale) > 1e-6 * place.scale:
            raise BadStudy(
                f"The adapter in {folder} has another form than this run's: at {name}, {shapes} with scale {scale:g}.",
                hint="Train with the rank, alpha, rslora and dora that it was trained with.",
            )
        with torch.no_grad():
            for key, parameter in place.parameters.items():
                parameter.copy_(kept[key])
    for product in decoder.products():
        product.refresh()


@dataclass(frozen=True, slots=True)
class Place:
    """A projection and the trainable adapter that belongs there."""

    name: str
    projection: Projection
    a: nn.Parameter
    b: nn.Parameter
    magnitude: nn.Parameter | None
    scale: float

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Under their attributes' names."""
        named = {"lora_A": self.a, "lora_B": self.b, "lora_magnitude_vector": self.magnitude}
        return {name: p for name, p in named.items() if p is not None}


def places(decoder: Decoder) -> tuple[Place, ...]:
    """The adapter now in the model, as it can be put back after another one."""
    return tuple(
        Place(name, p, p.lora_A, p.lora_B, p.lora_magnitude_vector, p.scale)
        for name, p in decoder.projections()
        if p.lora_A is not None and p.lora_B is not None
    )


def put(decoder: Decoder, adapter: Sequence[Place]) -> None:
    """Put the very parameters of `adapter` back in their places, and take any others out."""
    for _, p in decoder.projections():
        p.lora_A = p.lora_B = p.lora_magnitude_vector = None
    for place in adapter:
        p = place.projection
        p.lora_A, p.lora_B, p.lora_magnitude_vector, p.scale = place.a, place.b, place.magnitude, place.scale
    for product in decoder.products():
        product.rebuild()


def current(decoder: Decoder) -> dict[str, Matrices]:
    """The adapter now in the model."""
    return {p.name: Matrices(p.a.detach(), p.b.detach(), None if p.magnitude is None else p.magnitude.detach()) for p in places(decoder)}


def apply(decoder: Decoder, adapter: Adapter, scale: float) -> None:
    """Put `adapter` in, and take any other out; an unknown module name is an error, never ignored."""
    names = {name for name, _ in decoder.projections()}
    if unknown := sorted(set(adapter) - names):
        raise ModelUnavailable(
            f"The adapter has layers that this base model lacks: {unknown[0]} and {len(unknown) - 1} more.",
            hint="Use the base model that the adapter was trained on (base_model_name_or_path in adapter_config.json).",
        )
    for name, projection in decoder.projections():
        if name in adapter:
            found = adapter[name]
            projection.set_adapter(found.a, found.b, scale, found.magnitude)
        elif projection.lora_A is not None:
            projection.drop_adapter()


def save(folder: Path, adapter: Adapter, method: Lora, base_model: str) -> None:
    """Write a PEFT adapter folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, of in adapter.items():
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = of.a.contiguous()
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = of.b.contiguous()
        if of.magnitude is not None:
            tensors[f"{_PREFIX}{name}{_MAGNITUDE}"] = of.magnitude.contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": method.rank,
        "lora_alpha": method.alpha,
        "use_rslora": method.rslora,
        "use_dora": method.dora,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({name.rsplit(".", 1)[-1] for name in adapter}),
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def read(folder: Path) -> tuple[dict[str, Matrices], float]:
    """Read a PEFT adapter folder: the adapter and its scale (alpha / rank, or alpha / √rank for rsLoRA)."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "adapter_model.safetensors")
    except FileNotFoundError as error:
        raise ModelUnavailable(
            f"{folder} is not an adapter folder: adapter_config.json or adapter_model.safetensors is missing.",
            hint="Name the folder that a training run or PEFT's save_pretrained wrote.",
        ) from error
    if foreign := next((key for key in _UNSUPPORTED if config.get(key)), None):
        raise ModelUnavailable(
            f"{folder} is an adapter of a kind that is not supported: it uses {foreign}.",
            hint="Merge it into its base model with PEFT and name the merged folder.",
        )
    suffix = ".lora_A.weight"
    names = [key.removeprefix(_PREFIX).removesuffix(suffix) for key in tensors if key.endswith(suffix)]
    found = {
        n: Matrices(
            tensors[f"{_PREFIX}{n}{suffix}"], tensors[f"{_PREFIX}{n}.lora_B.weight"], tensors.get(f"{_PREFIX}{n}{_MAGNITUDE}")
        )
        for n in names
    }
    if config.get("use_dora") and any(of.magnitude is None for of in found.values()):
        raise ModelUnavailable(
            f"{folder} is a DoRA adapter without the magnitudes of some of its layers.",
            hint="Save it again with a current version of PEFT.",
        )
    rank = config["r"]
    scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
    return found, scale

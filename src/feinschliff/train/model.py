"""What is trained: an adapter on a frozen base, or the whole model. One interface for the loop."""
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import torch
from safetensors.torch import save_file
from torch import Tensor

from feinschliff.core.jobs import Full, Library, Lora, TrainSpec
from feinschliff.data.template import ARGUMENTS_FILE
from feinschliff.nn import adapter
from feinschliff.nn.blocks import CPU
from feinschliff.nn.loss import head_loss
from feinschliff.nn.model import Decoder, load
from feinschliff.nn.tree import Packed
from feinschliff.train.device import ON_CPU, Device
from feinschliff.train.sharding import ShardedLoss, shard

_TOKENIZER_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "chat_template.jinja", ARGUMENTS_FILE,
)  # fmt: skip
_HEAD = "lm_head.weight"


@dataclass(slots=True)
class Trainable:
    """A decoder with the parameters that change.

    Several adapters may share one decoder: each puts its own parameters in place before it computes.
    """

    decoder: Decoder
    spec: TrainSpec
    model_folder: Path
    own: tuple[adapter.Place, ...] = ()  # empty: the whole model is trained
    device: Device = ON_CPU
    _sharded: ShardedLoss | None = None

    @classmethod
    def make(
        cls, spec: TrainSpec, model_folder: Path, dtype: torch.dtype, base: Decoder | None = None, library: Library = "blas",
        device: Device = ON_CPU, *, to_shard: bool = False,
    ) -> "Trainable":
        """Load the model, or add an adapter to `base`, which others train on too.

        `to_shard`: a whole model waits in main memory until `shard` brings this rank's slices to the device.
        """
        if isinstance(spec.method, Full):
            decoder = load(model_folder, dtype=dtype, trainable=True, device=CPU if to_shard else device.where)
            return cls(decoder, spec, model_folder, device=device)
        decoder = base or load(
            model_folder, dtype=dtype, trainable=False, library=library, quantised=spec.method.kind == "qlora",
            device=device.where,
        )
        adapter.put(decoder, ())
        adapter.add(decoder, spec.method, spec.seed)
        model = cls(decoder, spec, model_folder, adapter.places(decoder), device)
        decoder.occupant = model.own
        return model

    def start_from(self, folder: Path) -> None:
        """Begin with the weights of an earlier adapter of the same form. Raises BadStudy."""
        self._enter()
        adapter.start_from(self.decoder, folder)

    def _enter(self) -> None:
        if self.own and self.decoder.occupant is not self.own:
            adapter.put(self.decoder, self.own)
            self.decoder.occupant = self.own

    def parameters(self) -> dict[str, Tensor]:
        """Trainable tensors by stable name."""
        if self.own:
            return {f"{place.name.removeprefix('model.')}.{x}": p for place in self.own for x, p in place.parameters.items()}
        return {n: p for n, p in self.decoder.body.named_parameters() if p.requires_grad} | self._own_head()

    def _own_head(self) -> dict[str, Tensor]:
        tied = any(p is self.decoder.head for p in self.decoder.body.parameters())
        return {_HEAD: self.decoder.head} if self.decoder.head.requires_grad and not tied else {}

    def loss(self, packed: Packed) -> tuple[Tensor, int]:
        """Summed weighted loss of one packed tree (on the CPU), and how many trained tokens were predicted right."""
        self._enter()
        if self._sharded is not None:
            loss: tuple[Tensor, int] = self._sharded(packed)
            return loss
        return self._loss(packed, self.decoder.head)

    def shard(self) -> None:
        """Part the weights among the ranks of the default process group; for full fine-tuning."""
        self._sharded = shard(self.decoder, self._loss, self.device.where)

    def _loss(self, packed: Packed, head: Tensor) -> tuple[Tensor, int]:
        there = packed.to(self.device.where)
        hidden_TD = self.decoder.hidden(there.tokens_T, there.positions_T, self.device.attend(packed))
        return head_loss(
            hidden_TD[there.rows_R], head, there.targets_R, there.weights_R,
            dtype=self.decoder.dtype, softcap=self.decoder.softcap,
        )  # fmt: skip

    def after_update(self) -> None:
        self._enter()
        for product in self.decoder.products():
            product.refresh()

    def save(self, folder: Path, parameters: Mapping[str, Tensor] | None = None) -> None:
        """Write the result: an adapter folder, or a whole model folder, there from `parameters` where they are sharded."""
        method = self.spec.method
        match method:
            case Lora():
                self._enter()
                adapter.save(folder, adapter.current(self.decoder), method, self.spec.model)
            case Full():
                self._save_whole(folder, parameters or self.parameters())
            case _:
                assert_never(method)

    def _save_whole(self, folder: Path, parameters: Mapping[str, Tensor]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        names = {n: n if n == _HEAD else f"model.{n}" for n in parameters}
        tensors = {names[n]: p.detach().float().contiguous() for n, p in parameters.items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        for name in _TOKENIZER_FILES:
            if (self.model_folder / name).is_file():
                shutil.copyfile(self.model_folder / name, folder / name)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps({**config, "dtype": "float32"}, indent=2), encoding="utf-8")

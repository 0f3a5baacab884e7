"""Saved training state: everything a killed run needs to go on to the very same weights."""
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from feinschliff.train.device import ON_CPU, Device
from feinschliff.train.sharding import like, parted_state, whole_parameters, whole_state
from feinschliff.train.stopping import Watch


@dataclass(frozen=True, slots=True)
class Cut:
    """How steps are cut into micro-batches: chosen at a run's first start and kept, because it decides how sums are rounded."""

    budget_tokens: int  # computed in one forward pass
    recompute: bool  # decoder layers run again in the backward pass


@dataclass(frozen=True, slots=True)
class Saved:
    step: int
    precision: str
    trained_tokens: int
    seconds: float
    cut: Cut = Cut(8192, recompute=False)
    watch: Watch = field(default_factory=Watch)


class StateFolder:
    """`RUN_DIR/state/step-N.pt`, written whole or not at all; the newest is kept. `writes=False`: only read."""

    def __init__(self, folder: Path, device: Device = ON_CPU, *, writes: bool = True) -> None:
        self._folder = folder
        self._device = device
        self._writes = writes

    def newest(self) -> Path | None:
        files = sorted(self._folder.glob("step-*.pt"), key=lambda p: int(p.stem.split("-")[1]))
        return files[-1] if files else None

    def save(self, saved: Saved, parameters: Mapping[str, Tensor], optimizer: Optimizer) -> None:
        tensors = whole_parameters(parameters, keep=self._writes)
        optimizer_state = whole_state(optimizer, keep=self._writes)
        if not self._writes:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        state = {
            "step": saved.step,
            "precision": saved.precision,
            "trained_tokens": saved.trained_tokens,
            "seconds": saved.seconds,
            "cut": (saved.cut.budget_tokens, saved.cut.recompute),
            "watch": asdict(saved.watch),
            "parameters": tensors,
            "optimizer": optimizer_state,
            "rng": self._device.random_states(),
        }
        path = self._folder / f"step-{saved.step}.pt"
        write_whole(path, lambda partial: _save(state, partial))
        for old in set(self._folder.glob("step-*.pt")) - {path}:
            old.unlink()

    def peek(self) -> Saved | None:
        """What the newest state is, without loading it into a model."""
        path = self.newest()
        if path is None:
            return None
        state = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
        watch = Watch(**state["watch"]) if "watch" in state else Watch()  # states of earlier versions have none
        return Saved(
            state["step"], state["precision"], state["trained_tokens"], state["seconds"], Cut(*state["cut"]), watch
        )

    @torch.no_grad()
    def restore(self, parameters: Mapping[str, Tensor], optimizer: Optimizer) -> None:
        """Load the newest state into `parameters` and `optimizer`, in place."""
        path = self.newest()
        if path is None:
            return
        state = torch.load(path, weights_only=True, map_location="cpu")  # it may come from another kind of device
        for name, value in state["parameters"].items():
            parameters[name].copy_(like(value, parameters[name]))
        optimizer.load_state_dict(parted_state(state["optimizer"], list(parameters.values())))
        random = state["rng"]
        self._device.set_random_states({"cpu": random} if isinstance(random, Tensor) else random)  # earlier versions: one


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file or folder beside `path`, then move it into place. What failed leaves nothing behind."""
    partial = path.with_name(f".{path.name}.partial")
    _remove(partial)
    try:
        write(partial)
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(partial, path)
    finally:
        _remove(partial)


def _save(state: Mapping[str, object], path: Path) -> None:
    """Through a file of ours, as torch's own does not say why it could not be written."""
    with path.open("wb") as file:
        torch.save(state, file)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

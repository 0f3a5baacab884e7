"""The training loop: supervised fine-tuning from a spec to a saved model, resumable at every saved step."""
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from feinschliff.core.chat import Rendered
from feinschliff.core.errors import TrainingFailed
from feinschliff.core.jobs import Checkpoint, Finished, Library, ResolvedHyperparameters, Started, TrainSpec
from feinschliff.data.render import Renderer
from feinschliff.nn.model import Decoder
from feinschliff.train import memory
from feinschliff.train.batches import Batches
from feinschliff.train.best import BestModel
from feinschliff.train.decisions import Decisions, decide
from feinschliff.train.device import ON_CPU, Device
from feinschliff.train.events import EventLog
from feinschliff.train.examples import Loaded, load
from feinschliff.train.model import Trainable
from feinschliff.train.parallel import ALONE, Ranks, Sharded
from feinschliff.train.probe import probe
from feinschliff.train.schedule import learning_rate
from feinschliff.train.shape import ModelShape
from feinschliff.train.sharding import whole_parameters
from feinschliff.train.state import Saved, StateFolder, write_whole
from feinschliff.train.step import optimizer_step
from feinschliff.train.telemetry import Telemetry
from feinschliff.train.validation import validate

_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
MODEL = "model"  # RUN_DIR/model: the result


class Bases:
    """Frozen decoders, each loaded once for all the adapters that are trained on it in this process."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[Path, torch.dtype, Library, str, Device], Decoder] = {}

    def make(
        self, spec: TrainSpec, model_folder: Path, dtype: torch.dtype, library: Library, device: Device, *, to_shard: bool
    ) -> Trainable:
        key = model_folder, dtype, library, spec.method.kind, device
        model = Trainable.make(spec, model_folder, dtype, self._loaded.get(key), library, device, to_shard=to_shard)
        if model.own:
            self._loaded[key] = model.decoder
        return model


def train(run_dir: Path, spec: TrainSpec, ranks: Ranks = ALONE, device: Device = ON_CPU) -> None:
    """Run `spec` to its end in `run_dir`. A second call goes on where the first was killed; a finished run returns at once."""
    for _ in steps(run_dir, spec, ranks, device=device):
        pass


def steps(
    run_dir: Path, spec: TrainSpec, ranks: Ranks = ALONE, bases: Bases | None = None, device: Device = ON_CPU
) -> Iterator[int]:
    """The same, yielding after every optimizer step."""
    log = EventLog(run_dir / "events.jsonl", writes=ranks.first)
    earlier = log.read()
    if any(isinstance(e, Finished) for e in earlier):
        return
    states = StateFolder(run_dir / "state", device, writes=ranks.first)
    saved = states.peek()
    model_folder = (run_dir / spec.model).resolve()
    data, validation = _read(run_dir, spec, Renderer.of(model_folder))
    shape = ModelShape.of(model_folder)
    decisions = decide(spec, shape, data.variants[0], saved, earlier, ranks, device)
    torch.manual_seed(spec.seed)
    model = (bases or Bases()).make(
        spec, model_folder, _DTYPES[decisions.precision], decisions.library, device, to_shard=isinstance(ranks, Sharded)
    )
    if spec.start_adapter is not None:
        model.start_from(run_dir / spec.start_adapter)
    h = decisions.hyperparameters
    cut = saved.cut if saved else memory.agreed(memory.as_before(memory.cut_for(model, data.variants, h.batch_size), earlier), ranks)
    memory.apply(cut, model)
    if isinstance(ranks, Sharded):
        model.shard()
    optimizer = torch.optim.AdamW(list(model.parameters().values()), lr=0.0, weight_decay=h.weight_decay, fused=True)
    states.restore(model.parameters(), optimizer)
    model.after_update()
    batches = Batches(data.variants, h.batch_size, spec.seed, spec.grouping)
    run = _Run(
        run_dir, spec, log, states, model, optimizer, batches, validation, shape,
        h, saved or Saved(0, decisions.precision, 0, 0.0, cut), ranks,
    )  # fmt: skip
    run.announce(data, decisions)
    if spec.lr_probe and not decisions.probed:
        run.probe()
    yield from run.steps(decisions)


def _read(run_dir: Path, spec: TrainSpec, renderer: Renderer) -> tuple[Loaded, tuple[Rendered, ...]]:
    max_tokens = min(x for x in (spec.max_tokens, renderer.max_tokens, 1 << 30) if x)
    data = load([run_dir / f for f in spec.train_files], renderer, max_tokens)
    validation: tuple[Rendered, ...] = ()
    if spec.validation_file:
        validation = load([run_dir / spec.validation_file], renderer, max_tokens).variants[0]
    if not validation and (spec.early_stopping or spec.keep_best):
        raise TrainingFailed(
            "early_stopping and keep_best go by the validation loss, and there are no validation examples.",
            hint="Give a validation_file (in a study: split.validation), or leave both out.",
        )
    return data, validation


@dataclass
class _Run:
    """One process's part of a run: the collaborators, and `saved`, how far it has come."""

    run_dir: Path
    spec: TrainSpec
    log: EventLog
    states: StateFolder
    model: Trainable
    optimizer: torch.optim.Optimizer
    batches: Batches
    validation: tuple[Rendered, ...]
    shape: ModelShape
    hyperparameters: ResolvedHyperparameters
    saved: Saved
    ranks: Ranks

    @property
    def best(self) -> BestModel:
        return BestModel(self.run_dir / "best")

    @property
    def total_steps(self) -> int:
        return self.batches.per_epoch * self.hyperparameters.n_epochs

    def announce(self, data: Loaded, decisions: Decisions) -> None:
        n_trainable = sum(p.numel() for p in self.model.parameters().values())
        self.log.append(
            Started(
                total_steps=self.total_steps, first_step=self.saved.step, n_examples=len(data.variants[0]),
                n_too_long=len(data.too_long), too_long_lines=data.too_long[:20], trainable_parameters=n_trainable,
                device=self.model.device.name, precision=decisions.precision, precision_reason=decisions.precision_reason, speed=decisions.speed,
                fp32_library=decisions.library,
                hyperparameters=self.hyperparameters, budget_tokens=self.saved.cut.budget_tokens,
                gradient_checkpointing=self.saved.cut.recompute, quantisation_error=self.model.decoder.quantisation_error,
            )
        )  # fmt: skip

    def probe(self) -> None:
        """Choose the learning rate. Only ever before the first step, so a resumed run finds the choice in the log."""
        told = probe(self.model, self.batches, self.hyperparameters, self.saved.cut.budget_tokens, self.ranks)
        self.log.append(told)
        self.hyperparameters = self.hyperparameters.model_copy(update={"learning_rate": told.learning_rate})

    def steps(self, decisions: Decisions) -> Iterator[int]:
        """Go to the end, yielding after every step."""
        h, total = self.hyperparameters, self.total_steps
        speed = decisions.speed.of(decisions.precision, decisions.library)
        telemetry = Telemetry(self.shape, self.spec.method, speed, h, total, self.batches.per_epoch)
        started, before = time.monotonic(), self.saved
        for step in range(self.saved.step + 1, total + 1):
            if self._is_over:
                break
            t0 = time.monotonic()
            result = optimizer_step(
                self.model, self.optimizer, self.batches.at(step - 1), rate=learning_rate(step, total, h),
                max_grad_norm=h.max_grad_norm, budget_tokens=self.saved.cut.budget_tokens, ranks=self.ranks,
            )  # fmt: skip
            self.model.device.wait()
            now = time.monotonic()
            eta_s = (now - started) / (step - before.step) * (total - step)
            self.saved = replace(
                self.saved, step=step, trained_tokens=self.saved.trained_tokens + result.trained_tokens,
                seconds=before.seconds + now - started,
            )  # fmt: skip
            self.log.append(telemetry.event(step, result, seconds=now - t0, eta_s=eta_s, memory_bytes=self.model.device.held_bytes()))
            self._save_if_due(step, total)
            left = time.monotonic()
            yield step
            started += time.monotonic() - left  # while other runs of the process have their turns, this one's time stands still
        self._finish(time.monotonic() - started + before.seconds)

    @property
    def _is_over(self) -> bool:
        return self.saved.watch.is_over(self.spec.early_stopping)

    def _save_if_due(self, step: int, total: int) -> None:
        epoch_ends = step % self.batches.per_epoch == 0
        every = self.spec.validate_every_steps or self.batches.per_epoch
        validates = bool(self.validation) and (step % every == 0 or step == total)
        if validates:
            self._validate(step)
        if epoch_ends and step < total:
            path = self.run_dir / "checkpoints" / f"step-{step}"
            self._write_model(path)
            self.log.append(Checkpoint(step=step, path=str(path.relative_to(self.run_dir))))
        if epoch_ends or validates or step % self.spec.save_every_steps == 0:
            self.states.save(self.saved, self.model.parameters(), self.optimizer)
            if self.spec.keep_best and self.ranks.first:
                self.best.keep_only(self.saved.watch.best_step)

    def _validate(self, step: int) -> None:
        told = validate(self.model, self.validation, step, self.saved.cut.budget_tokens, self.ranks)
        self.log.append(told)
        self.saved = replace(self.saved, watch=self.saved.watch.seen(step, told.valid_loss, self.spec.early_stopping))
        if self.spec.keep_best and self.saved.watch.best_step == step:
            self._write_model(self.best.path(step))

    def _write_model(self, path: Path) -> None:
        parameters = whole_parameters(self.model.parameters(), keep=self.ranks.first)
        if self.ranks.first:
            path.parent.mkdir(exist_ok=True)
            write_whole(path, lambda folder: self.model.save(folder, parameters))

    def _finish(self, seconds: float) -> None:
        watch = self.saved.watch
        if not self.spec.keep_best or watch.best_step is None:
            self._write_model(self.run_dir / MODEL)
        elif self.ranks.first:
            write_whole(self.run_dir / MODEL, partial(self.best.copy, watch.best_step))
        self.log.append(
            Finished(
                step=self.saved.step, trained_tokens=self.saved.trained_tokens, path=MODEL, seconds=seconds,
                peak_memory_bytes=self.model.device.peak_bytes(), best_step=watch.best_step,
                best_valid_loss=None if watch.best_step is None else watch.best_loss,
                stopped_early=self._is_over and self.saved.step < self.total_steps,
            )
        )  # fmt: skip
        if self.ranks.first:
            self.best.keep_only(None)

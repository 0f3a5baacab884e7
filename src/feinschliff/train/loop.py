"""The training loop: supervised fine-tuning from a spec to a saved model, resumable at every saved step."""
import resource
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from feinschliff.core.chat import Rendered
from feinschliff.core.jobs import Checkpoint, Finished, Hyperparameters, Started, Step, TrainSpec
from feinschliff.data.render import Renderer
from feinschliff.nn.model import fast_dtype
from feinschliff.train import memory
from feinschliff.train.batches import batch, steps_per_epoch
from feinschliff.train.events import EventLog
from feinschliff.train.examples import Loaded, load
from feinschliff.train.model import Trainable
from feinschliff.train.parallel import ALONE, Ranks, Sharded
from feinschliff.train.schedule import learning_rate
from feinschliff.train.sharding import whole_parameters
from feinschliff.train.state import Saved, StateFolder, write_whole
from feinschliff.train.step import StepResult, optimizer_step
from feinschliff.train.validation import validate

_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
MODEL = "model"  # RUN_DIR/model: the result


def train(run_dir: Path, spec: TrainSpec, ranks: Ranks = ALONE) -> None:
    """Run `spec` to its end in `run_dir`. A second call goes on where the first was killed; a finished run returns at once."""
    log = EventLog(run_dir / "events.jsonl", writes=ranks.first)
    if any(isinstance(e, Finished) for e in log.read()):
        return
    states = StateFolder(run_dir / "state", writes=ranks.first)
    saved = states.peek()
    # The precision is fixed by the first start: a resumed run must not choose again.
    precision = ranks.agreed(saved.precision if saved else _choose(spec))
    model_folder = (run_dir / spec.model).resolve()
    renderer = Renderer.of(model_folder)
    max_tokens = min(x for x in (spec.max_tokens, renderer.max_tokens, 1 << 30) if x)
    data = load([run_dir / f for f in spec.train_files], renderer, max_tokens)
    validation: tuple[Rendered, ...] = ()
    if spec.validation_file:
        validation = load([run_dir / spec.validation_file], renderer, max_tokens).variants[0]
    torch.manual_seed(spec.seed)
    model = Trainable.make(spec, model_folder, _DTYPES[precision])
    cut = saved.cut if saved else memory.agreed(memory.cut_for(model, data.variants, spec.hyperparameters.batch_size), ranks)
    memory.apply(cut, model)
    if isinstance(ranks, Sharded):
        model.shard()
    optimizer = torch.optim.AdamW(
        list(model.parameters().values()), lr=0.0, weight_decay=spec.hyperparameters.weight_decay, fused=True
    )
    states.restore(model.parameters(), optimizer)
    model.after_update()
    run = _Run(run_dir, spec, log, states, model, optimizer, data, validation, saved or Saved(0, precision, 0, 0.0, cut), ranks)
    run.to_the_end()


def _choose(spec: TrainSpec) -> str:
    if spec.precision != "auto":
        return spec.precision
    return "bf16" if fast_dtype() == torch.bfloat16 else "fp32"


@dataclass
class _Run:
    """One process's part of a run: the collaborators, and `saved`, how far it has come."""

    run_dir: Path
    spec: TrainSpec
    log: EventLog
    states: StateFolder
    model: Trainable
    optimizer: torch.optim.Optimizer
    data: Loaded
    validation: tuple[Rendered, ...]
    saved: Saved
    ranks: Ranks = ALONE

    @property
    def per_epoch(self) -> int:
        return steps_per_epoch(len(self.data.variants[0]), self.spec.hyperparameters.batch_size)

    def to_the_end(self) -> None:
        h = self.spec.hyperparameters
        total = self.per_epoch * h.n_epochs
        self._announce(total)
        started, before = time.monotonic(), self.saved
        for step in range(self.saved.step + 1, total + 1):
            t0 = time.monotonic()
            examples = batch(self.data.variants, step - 1, h.batch_size, self.spec.seed)
            result = optimizer_step(
                self.model, self.optimizer, examples, rate=learning_rate(step, total, h),
                max_grad_norm=h.max_grad_norm, budget_tokens=self.saved.cut.budget_tokens, ranks=self.ranks,
            )  # fmt: skip
            now = time.monotonic()
            eta = (now - started) / (step - before.step) * (total - step)
            self.saved = replace(
                before, step=step, trained_tokens=self.saved.trained_tokens + result.trained_tokens,
                seconds=before.seconds + now - started,
            )  # fmt: skip
            self.log.append(_step_event(step, total, self.per_epoch, h, result, now - t0, eta))
            self._save_if_due(step, total)
        self._finish(time.monotonic() - started + before.seconds)

    def _announce(self, total: int) -> None:
        n_trainable = sum(p.numel() for p in self.model.parameters().values())
        self.log.append(
            Started(
                total_steps=total, first_step=self.saved.step, n_examples=len(self.data.variants[0]),
                n_too_long=len(self.data.too_long), too_long_lines=self.data.too_long[:20],
                precision=self.saved.precision, trainable_parameters=n_trainable,
                budget_tokens=self.saved.cut.budget_tokens, gradient_checkpointing=self.saved.cut.recompute,
            )
        )  # fmt: skip

    def _save_if_due(self, step: int, total: int) -> None:
        epoch_ends = step % self.per_epoch == 0
        if epoch_ends and self.validation:
            self.log.append(validate(self.model, self.validation, step, self.saved.cut.budget_tokens, self.ranks))
        if epoch_ends and step < total:
            path = self.run_dir / "checkpoints" / f"step-{step}"
            self._write_model(path)
            self.log.append(Checkpoint(step=step, path=str(path.relative_to(self.run_dir))))
        if epoch_ends or step % self.spec.save_every_steps == 0:
            self.states.save(self.saved, self.model.parameters(), self.optimizer)

    def _write_model(self, path: Path) -> None:
        parameters = whole_parameters(self.model.parameters(), keep=self.ranks.first)
        if self.ranks.first:
            path.parent.mkdir(exist_ok=True)
            write_whole(path, lambda folder: self.model.save(folder, parameters))

    def _finish(self, seconds: float) -> None:
        self._write_model(self.run_dir / MODEL)
        self.log.append(
            Finished(
                step=self.saved.step, trained_tokens=self.saved.trained_tokens, path=MODEL, seconds=seconds,
                peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            )
        )  # fmt: skip


def _step_event(
    step: int, total: int, per_epoch: int, h: Hyperparameters, result: StepResult, seconds: float, eta_s: float
) -> Step:
    return Step(
        step=step, total_steps=total, epoch=step / per_epoch, train_loss=result.loss,
        train_token_accuracy=result.accuracy, learning_rate=learning_rate(step, total, h), grad_norm=result.grad_norm,
        trained_tokens=result.trained_tokens, logical_tokens=result.logical_tokens,
        computed_tokens=result.computed_tokens, seconds=seconds, eta_s=eta_s,
    )  # fmt: skip

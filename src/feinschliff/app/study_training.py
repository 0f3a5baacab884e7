"""Training for a study: contexts and examples become files and specs, the trainer's events become progress."""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from feinschliff.app.study_folder import Layout
from feinschliff.app.study_parts import StudyParts
from feinschliff.app.study_trainings import Training
from feinschliff.arms.context import in_context
from feinschliff.arms.recipe import Pantry, build
from feinschliff.core.chat import Example
from feinschliff.core.jobs import (
    Finished,
    Hyperparameters,
    JobId,
    LrProbe,
    Started,
    Step,
    Told,
    TrainEvent,
    TrainSpec,
    Validation,
)
from feinschliff.core.ports import Trainer
from feinschliff.core.study import Study
from feinschliff.core.study import Training as TrainingSettings
from feinschliff.data.convert import to_jsonl
from feinschliff.data.files import write_atomically
from feinschliff.data.split import share_of

OpenPantry = Callable[[], Pantry]


class Observer(Protocol):
    """Told how the work goes on. Implementations draw progress bars, or nothing."""

    def stage(self, name: str, total: int) -> None: ...
    def advance(self, done: int) -> None: ...
    def note(self, text: str) -> None: ...


async def train(
    trainings: Sequence[Training], specs: Mapping[JobId, TrainSpec], trainer: Trainer, observer: Observer
) -> dict[JobId, list[TrainEvent]]:
    """Train, or go on training, or only read the events of finished runs; all events by job."""
    events: dict[JobId, list[TrainEvent]] = {job_id: [] for job_id in specs}
    progress = _Progress(trainings, observer)
    async for job_id, event in trainer.run(specs):
        events[job_id].append(event)
        progress.tell(job_id, event)
    return events


def spec_of(
    training: Training, study: Study, parts: StudyParts, layout: Layout, base_model: Path, pantry: OpenPantry
) -> TrainSpec:
    """The training program's orders. The files that they name are written where they are not there yet."""
    settings = settings_of(study, training.host)
    folder, first = layout.runs / training.job_id, layout.run
    files = {context: f"train-{n}.jsonl" for n, context in enumerate(dict.fromkeys(settings.contexts))}
    examples = examples_of(training, study, parts)
    own = folder if not training.whole else first  # all seeds read the first one's files
    for context, name in files.items():
        if not (own / name).is_file():
            cupboard = pantry_of(training, pantry(), examples)
            write_atomically(own / name, to_jsonl(in_context(examples, build(context, cupboard))))
    if parts.validation and not (first / "validation.jsonl").is_file():
        shown = in_context(parts.validation, build(settings.contexts[0], pantry()))
        write_atomically(first / "validation.jsonl", to_jsonl(shown))
    up = "" if training.first else "../../"
    files_of_it = tuple(f"{up if training.whole else ''}{files[context]}" for context in settings.contexts)
    validation = f"{up}validation.jsonl" if parts.validation else None
    if training.host:
        return hosted_spec(study, training.host, files_of_it, validation)
    return _spec(settings, str(base_model), training.seed, files_of_it, validation)


def hosted_spec(study: Study, host: str, train_files: tuple[str, ...] = ("train.jsonl",), validation: str | None = None) -> TrainSpec:
    """What a provider is to train; the files may be named later."""
    hosted = study.hosted[host]
    return _spec(settings_of(study, host), f"{hosted.region}:{hosted.model}", study.training.seed, train_files, validation)


def _spec(settings: TrainingSettings, model: str, seed: int, train_files: tuple[str, ...], validation: str | None) -> TrainSpec:
    return TrainSpec(
        model=model, train_files=train_files, validation_file=validation,
        method=settings.method, hyperparameters=settings.hyperparameters, max_tokens=settings.max_tokens,
        precision=settings.precision, seed=seed, grouping=settings.grouping,
        validate_every_steps=settings.validate_every_steps, early_stopping=settings.early_stopping,
        keep_best=settings.keep_best, lr_probe=settings.lr_probe,
    )  # fmt: skip


def settings_of(study: Study, host: str) -> TrainingSettings:
    """How a training is done: as `[training]` says, or by what `[hosted.NAME]` says of its own and the provider's defaults."""
    own = study.hosted[host].hyperparameters if host else None
    if own is None:
        return study.training
    return TrainingSettings(
        contexts=study.training.contexts, seed=study.training.seed,
        hyperparameters=Hyperparameters(n_epochs=own.n_epochs, batch_size=own.batch_size, learning_rate_multiplier=own.multiplier),
    )  # fmt: skip


def examples_of(training: Training, study: Study, parts: StudyParts) -> tuple[Example, ...]:
    """What this training learns from; the seed also draws a curve's part, so that its intervals hold for other draws."""
    return parts.train if training.whole else share_of(parts.train, training.share, training.seed, study.split.group)


def pantry_of(training: Training, pantry: Pantry, examples: Sequence[Example]) -> Pantry:
    """With less data there are fewer examples to show, too."""
    return pantry if training.whole else replace(pantry, pool=examples)


class NotesOnly:
    """An Observer for work beside other work, which has the bar."""

    def __init__(self, observer: Observer) -> None:
        self.note = observer.note

    def stage(self, name: str, total: int) -> None: ...
    def advance(self, done: int) -> None: ...


class _Progress:
    """One bar for all trainings. Those of the same process take turns, so what is said once holds for all is said of the first only."""

    def __init__(self, trainings: Sequence[Training], observer: Observer) -> None:
        self._trainings = {training.job_id: training for training in trainings}
        self._observer = observer
        self._steps = dict.fromkeys(self._trainings, 0)
        self._total = 0

    def tell(self, job_id: JobId, event: TrainEvent) -> None:
        training = self._trainings[job_id]
        name = f"{training}: " if training.host or len(self._trainings) > 1 else ""
        note = self._observer.note
        match event:
            case Started():
                if training.first or training.host:
                    self._begin(event)
            case Told():
                note(f"{name}{event.message}")
            case LrProbe():
                note(f"{name}learning rate {event.learning_rate:g}: {event.reason}")
            case Step():
                self._steps[job_id] = event.step
                self._observer.advance(min(sum(self._steps.values()), self._total))
            case Validation():
                note(f"{name}step {event.step}: validation loss {event.valid_loss:.3f}, token accuracy {event.valid_token_accuracy:.1%}")
            case Finished():
                early = f", stopped early after step {event.step}" if event.stopped_early else ""
                note(f"{name}trained {event.trained_tokens:,} tokens in {event.seconds:.0f} s{early}")
            case _:
                pass

    def _begin(self, event: Started) -> None:
        n = len(self._trainings)
        # The others' steps are not known yet; they have about their share of the first one's.
        self._total = round(event.total_steps * sum(t.share for t in self._trainings.values()))
        what = "training" if n == 1 else f"{n} trainings"
        size = f", {event.trainable_parameters:,} parameters" if event.trainable_parameters else ""  # providers do not say
        self._observer.stage(f"{what} ({event.precision}{size})", self._total)
        if event.n_too_long:
            lines = ", ".join(map(str, event.too_long_lines))
            self._observer.note(f"{event.n_too_long} training examples are too long and left out, never cut: lines {lines}")
        for reason in event.hyperparameters.reasons if event.hyperparameters else ():
            self._observer.note(reason)

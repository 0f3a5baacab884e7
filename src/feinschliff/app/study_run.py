"""Run a study: baselines, training, tuned arms, grades, comparison, verdict. Killed at any moment, it goes on where it was."""
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from feinschliff.app import study_report
from feinschliff.app.study_answers import CHUNK, n_chunks
from feinschliff.app.study_file import prompt_text
from feinschliff.app.study_folder import Layout, claimed, inputs_of
from feinschliff.app.study_graders import Graders
from feinschliff.app.study_parts import StudyParts, prepare
from feinschliff.arms.context import in_context, with_context
from feinschliff.arms.recipe import Pantry, build
from feinschliff.core.chat import Example
from feinschliff.core.jobs import Finished, JobId, LrProbe, Started, Step, TrainEvent, TrainSpec, Validation
from feinschliff.core.ports import Embedder, Responder, Trainer
from feinschliff.core.report import Report
from feinschliff.core.study import Study
from feinschliff.data.convert import to_jsonl
from feinschliff.data.files import write_atomically
from feinschliff.evals.compare import is_tuned
from feinschliff.retrieval.documents import read_documents
from feinschliff.retrieval.index import Index

OpenPantry = Callable[[], Pantry]


class Observer(Protocol):
    """Told how the work goes on. Implementations draw progress bars, or nothing."""

    def stage(self, name: str, total: int) -> None: ...
    def advance(self, done: int) -> None: ...
    def note(self, text: str) -> None: ...


class OpenResponder(Protocol):
    """Loads the base model, with the adapter or model folder of a run where given, for as long as the context is open."""

    def __call__(self, tuned: Path | None, on_progress: Callable[[int], None], /) -> AbstractContextManager[Responder]: ...


@dataclass(frozen=True, slots=True)
class Backends:
    """The machines and models that a study is run with."""

    base_model: Path
    base_sha256: str
    open_responder: OpenResponder
    open_embedder: Callable[[], AbstractContextManager[Embedder]]
    trainer: Callable[[Path], Trainer]  # for runs under a folder
    device: str
    versions: dict[str, str]


async def run(study: Study, base: Path, out: Path, backends: Backends, observer: Observer) -> Report:
    """The whole study into `out`; returns what it also wrote to report.json, report.html and failures.jsonl.

    `base` is the study file's folder. Raises FolderInUse where `out` belongs to another study or another process.
    """
    started = time.monotonic()
    layout = Layout(out)
    with Graders(study, base) as graders, claimed(layout, inputs_of(study, base, backends.base_sha256)):
        parts = prepare(study, base, layout.data, backends.base_model)
        graders.prepare(e.answer for e in (*parts.train, *parts.validation, *parts.test))
        job = _Job(study, base, layout, backends, observer, parts, graders)
        timings = await job.answer_and_train()
        timings["total"] = time.monotonic() - started
        return study_report.write(study, layout, parts, graders, job.events, backends, timings, observer)


class _Job:
    """One run of one study."""

    def __init__(
        self, study: Study, base: Path, layout: Layout, backends: Backends, observer: Observer, parts: StudyParts,
        graders: Graders,
    ) -> None:  # fmt: skip
        self.study, self.base, self.layout = study, base, layout
        self.backends, self.observer, self.parts, self.graders = backends, observer, parts, graders
        self.events: list[TrainEvent] = []

    async def answer_and_train(self) -> dict[str, float]:
        """Everything that takes long; seconds by stage, of this run."""
        timings: dict[str, float] = {}
        with ExitStack() as stack:
            pantry = cache(lambda: stack.enter_context(self._pantry()))  # opened by the first that needs it
            untuned = [a for a in self.study.arms if not is_tuned(a)]
            tuned = [a for a in self.study.arms if is_tuned(a)]
            with _timed(timings, "untuned arms"):
                await self._answer_arms(untuned, None, pantry)
            if tuned:
                with _timed(timings, "training"):
                    result = await self._train(pantry)
                with _timed(timings, "tuned arms"):
                    await self._answer_arms(tuned, result, pantry)
        return timings

    @contextmanager
    def _pantry(self) -> Iterator[Pantry]:
        """What the arms are made from; the embedding model is loaded only where an arm needs it."""
        study = self.study
        recipes = " ".join([*study.arms, *(study.training.contexts if any(map(is_tuned, study.arms)) else ())])
        common = {"system_text": prompt_text(study, self.base), "pool": self.parts.train, "few_shot_k": study.few_shot.k}
        if "few_shot" not in recipes and "retrieval" not in recipes:
            yield Pantry(**common)
            return
        self.observer.note("loading the embedding model")
        with self.backends.open_embedder() as embedder:
            retriever, k = None, 0
            if study.retrieval is not None and "retrieval" in recipes:
                documents = read_documents(study.retrieval.documents, self.base)
                retriever, k = Index.build(documents, embedder, study.retrieval.chunk_words), study.retrieval.k
            yield Pantry(**common, embedder=embedder, retriever=retriever, retrieval_k=k)

    async def _answer_arms(self, arms: Sequence[str], tuned: Path | None, pantry: OpenPantry) -> None:
        """The held-out set through each arm; and the validation part through the best untuned one, so that its failures can
        be collected without leaking.
        """
        todo = [a for a in arms if not self._is_done(a)]
        if not todo and (tuned is not None or self._is_validated(self._best_untuned())):
            return
        self.observer.note("loading the model")
        with self.backends.open_responder(tuned, self._advanced) as model:
            for arm in todo:
                responder = with_context(model, build(arm, pantry()))
                await self._answer(arm, "test", self.parts.test, responder)
                sample = [e.prompt for e in self.parts.test[: self.study.measure.latency_requests]]
                self.observer.stage(f"{arm}: latency of {len(sample)} requests", len(sample))
                await self.layout.arm(arm).time_alone(responder, sample)
            if tuned is None and (best := self._best_untuned()) is not None:
                await self._answer(best, "validation", self.parts.validation, with_context(model, build(best, pantry())))

    def _is_done(self, arm: str) -> bool:
        folder = self.layout.arm(arm)
        return folder.is_answered("test", len(self.parts.test)) and folder.latencies_ms() is not None

    def _is_validated(self, arm: str | None) -> bool:
        return arm is None or self.layout.arm(arm).is_answered("validation", len(self.parts.validation))

    def _best_untuned(self) -> str | None:
        untuned = [a for a in self.study.arms if not is_tuned(a)]
        return study_report.best_untuned(self.study, untuned, self.layout, self.parts, self.graders)

    async def _answer(self, arm: str, part: str, examples: Sequence[Example], responder: Responder) -> None:
        folder = self.layout.arm(arm)
        self.observer.stage(f"{arm}: {part} set", len(examples))
        for number in range(n_chunks(len(examples))):
            self._before = number * CHUNK
            if not folder.chunk(part, number).is_file():
                t0 = time.monotonic()
                replies = await responder([e.prompt for e in examples[number * CHUNK : (number + 1) * CHUNK]])
                folder.write_chunk(part, number, replies, time.monotonic() - t0)
            self.observer.advance(min(len(examples), (number + 1) * CHUNK))

    _before = 0  # conversations answered in earlier chunks

    def _advanced(self, done: int) -> None:
        self.observer.advance(self._before + done)

    async def _train(self, pantry: OpenPantry) -> Path:
        """Train, or go on training, or only read the events of a finished run; the result's folder."""
        folder = self.layout.run
        spec = self._train_spec(pantry, folder)
        self.observer.note(f"training on {len(self.parts.train)} examples in {len(set(spec.train_files))} context(s)")
        async for event in self.backends.trainer(folder.parent).run(JobId(folder.name), spec):
            self.events.append(event)
            self._observe(event)
        return folder / "model"

    def _train_spec(self, pantry: OpenPantry, folder: Path) -> TrainSpec:
        training = self.study.training
        files = {context: f"train-{n}.jsonl" for n, context in enumerate(dict.fromkeys(training.contexts))}
        for context, name in files.items():
            if not (folder / name).is_file():
                write_atomically(folder / name, to_jsonl(in_context(self.parts.train, build(context, pantry()))))
        validation = None
        if self.parts.validation:
            validation = "validation.jsonl"
            if not (folder / validation).is_file():
                chosen = in_context(self.parts.validation, build(training.contexts[0], pantry()))
                write_atomically(folder / validation, to_jsonl(chosen))
        return TrainSpec(
            model=str(self.backends.base_model), train_files=tuple(files[c] for c in training.contexts), validation_file=validation,
            method=training.method, hyperparameters=training.hyperparameters, max_tokens=training.max_tokens,
            precision=training.precision, seed=training.seed, grouping=training.grouping,
            validate_every_steps=training.validate_every_steps, early_stopping=training.early_stopping,
            keep_best=training.keep_best, lr_probe=training.lr_probe,
        )  # fmt: skip

    def _observe(self, event: TrainEvent) -> None:
        match event:
            case Started():
                self.observer.stage(f"training ({event.precision}, {event.trainable_parameters:,} parameters)", event.total_steps)
                if event.n_too_long:
                    lines = ", ".join(map(str, event.too_long_lines))
                    self.observer.note(f"{event.n_too_long} training examples are too long and left out, never cut: lines {lines}")
                if event.hyperparameters:
                    for reason in event.hyperparameters.reasons:
                        self.observer.note(reason)
            case LrProbe():
                self.observer.note(f"learning rate {event.learning_rate:g}: {event.reason}")
            case Step():
                self.observer.advance(event.step)
            case Validation():
                self.observer.note(f"step {event.step}: validation loss {event.valid_loss:.3f}, token accuracy {event.valid_token_accuracy:.1%}")
            case Finished():
                early = f", stopped early after step {event.step}" if event.stopped_early else ""
                self.observer.note(f"trained {event.trained_tokens:,} tokens in {event.seconds:.0f} s{early}")
            case _:
                pass


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    t0 = time.monotonic()
    yield
    timings[name] = time.monotonic() - t0

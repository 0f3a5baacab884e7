"""Run a study: baselines, training, tuned arms, grades, comparison, verdict. Killed at any moment, it goes on where it was."""
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from feinschliff.app import study_report
from feinschliff.app.study_answers import CHUNK, ArmFolder, n_chunks
from feinschliff.app.study_file import prompt_text
from feinschliff.app.study_folder import Layout, claimed, inputs_of
from feinschliff.app.study_graders import Graders
from feinschliff.app.study_parts import StudyParts, prepare
from feinschliff.app.study_training import Observer, OpenPantry, examples_of, pantry_of, spec_of, train
from feinschliff.app.study_trainings import Trained, Training, answers_of, asked_of, chosen, planned
from feinschliff.arms.context import with_context
from feinschliff.arms.recipe import Pantry, build
from feinschliff.core.chat import Example
from feinschliff.core.ports import Embedder, Responder, Trainer
from feinschliff.core.report import Report
from feinschliff.core.study import Study
from feinschliff.evals.compare import is_tuned
from feinschliff.retrieval.documents import read_documents
from feinschliff.retrieval.index import Index


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
        return study_report.write(study, layout, parts, graders, job.trained, backends, timings, observer)


class _Job:
    """One run of one study."""

    def __init__(
        self, study: Study, base: Path, layout: Layout, backends: Backends, observer: Observer, parts: StudyParts,
        graders: Graders,
    ) -> None:  # fmt: skip
        self.study, self.base, self.layout = study, base, layout
        self.backends, self.observer, self.parts, self.graders = backends, observer, parts, graders
        self.trained = Trained(planned(study, layout) if any(map(is_tuned, study.arms)) else (), {}, None)

    async def answer_and_train(self) -> dict[str, float]:
        """Everything that takes long; seconds by stage, of this run."""
        timings: dict[str, float] = {}
        with ExitStack() as stack:
            pantry = cache(lambda: stack.enter_context(self._pantry()))  # opened by the first that needs it
            with _timed(timings, "untuned arms"):
                await self._answer_untuned(pantry)
            if self.trained.trainings:
                with _timed(timings, "training"):
                    await self._train(pantry)
                with _timed(timings, "tuned arms"):
                    for training in self.trained.trainings:
                        await self._answer_tuned(training, pantry)
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

    async def _answer_untuned(self, pantry: OpenPantry) -> None:
        """The held-out set through each untuned arm; and the validation part through the best one, so that its failures can
        be collected without leaking.
        """
        todo = [a for a in self.study.arms if not is_tuned(a) and not self._is_done(self.layout.arm(a), latency=True)]
        if not todo and self._is_validated(self._best_untuned()):
            return
        self.observer.note("loading the model")
        with self.backends.open_responder(None, self._advanced) as model:
            for arm in todo:
                await self._measure(arm, self.layout.arm(arm), with_context(model, build(arm, pantry())), latency=True)
            if (best := self._best_untuned()) is not None:
                responder = with_context(model, build(best, pantry()))
                await self._answer(best, "validation", self.parts.validation, self.layout.arm(best), responder)

    async def _answer_tuned(self, training: Training, pantry: OpenPantry) -> None:
        """The held-out set through a training's model; only the chosen one's answers are timed one at a time."""
        folders = {arm: answers_of(self.layout, training, arm) for arm in asked_of(self.study, training)}
        latency = training == self.trained.chosen
        todo = [arm for arm, folder in folders.items() if not self._is_done(folder, latency=latency)]
        if not todo:
            return
        self.observer.note("loading the model")
        with self.backends.open_responder(self.layout.runs / training.job_id / "model", self._advanced) as model:
            for arm in todo:
                cupboard = pantry_of(training, pantry(), examples_of(training, self.study, self.parts))
                name = arm if len(self.trained.trainings) == 1 else f"{arm} ({training})"
                await self._measure(name, folders[arm], with_context(model, build(arm, cupboard)), latency=latency)

    async def _measure(self, name: str, folder: ArmFolder, responder: Responder, *, latency: bool) -> None:
        await self._answer(name, "test", self.parts.test, folder, responder)
        if latency:
            sample = [e.prompt for e in self.parts.test[: self.study.measure.latency_requests]]
            self.observer.stage(f"{name}: latency of {len(sample)} requests", len(sample))
            await folder.time_alone(responder, sample)

    def _is_done(self, folder: ArmFolder, *, latency: bool) -> bool:
        return folder.is_answered("test", len(self.parts.test)) and (folder.latencies_ms() is not None or not latency)

    def _is_validated(self, arm: str | None) -> bool:
        return arm is None or self.layout.arm(arm).is_answered("validation", len(self.parts.validation))

    def _best_untuned(self) -> str | None:
        untuned = [a for a in self.study.arms if not is_tuned(a)]
        return study_report.best_untuned(self.study, untuned, self.layout, self.parts, self.graders)

    async def _answer(
        self, name: str, part: str, examples: Sequence[Example], folder: ArmFolder, responder: Responder
    ) -> None:
        self.observer.stage(f"{name}: {part} set", len(examples))
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

    async def _train(self, pantry: OpenPantry) -> None:
        """Train, or go on training, or only read the events of finished runs."""
        study, parts, trainings = self.study, self.parts, self.trained.trainings
        specs = {t.job_id: spec_of(t, study, parts, self.layout, self.backends.base_model, pantry) for t in trainings}
        times = f", {len(trainings)} trainings" if len(trainings) > 1 else ""
        n_contexts = len(set(study.training.contexts))
        self.observer.note(f"training on {len(parts.train)} examples in {n_contexts} context(s){times}")
        events = await train(trainings, specs, self.backends.trainer(self.layout.runs), self.observer)
        self.trained = Trained(trainings, events, chosen(study, trainings, events))


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    t0 = time.monotonic()
    yield
    timings[name] = time.monotonic() - t0

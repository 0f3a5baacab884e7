"""Run a study: baselines, training, tuned arms, grades, comparison, verdict. Killed at any moment, it goes on where it was."""
import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

from feinschliff.app import study_report
from feinschliff.app.study_answers import CHUNK, ArmFolder, n_chunks
from feinschliff.app.study_file import prompt_text
from feinschliff.app.study_folder import Layout, claimed, inputs_of
from feinschliff.app.study_graders import Graders
from feinschliff.app.study_hosted import Host
from feinschliff.app.study_parts import StudyParts, prepare
from feinschliff.app.study_training import (
    NotesOnly,
    Observer,
    OpenPantry,
    examples_of,
    pantry_of,
    spec_of,
    train,
)
from feinschliff.app.study_trainings import (
    Events,
    Trained,
    Training,
    answers_of,
    asked_of,
    chosen,
    planned,
    planned_elsewhere,
)
from feinschliff.arms.context import with_context
from feinschliff.arms.recipe import Pantry, build
from feinschliff.core.chat import Example
from feinschliff.core.jobs import JobId, TrainSpec
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
    hosts: Mapping[str, Host] = field(default_factory=dict)  # by the name of their [hosted.NAME]


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
        self.trained = Trained(planned(study, layout), {}, None, planned_elsewhere(study, layout))

    async def answer_and_train(self) -> dict[str, float]:
        """Everything that takes long; seconds by stage, of this run."""
        timings: dict[str, float] = {}
        with ExitStack() as stack:
            pantry = cache(lambda: stack.enter_context(self._pantry()))  # opened by the first that needs it
            with _timed(timings, "untuned arms"):
                await self._answer_untuned(pantry)
            if trainings := (*self.trained.trainings, *self.trained.elsewhere):
                with _timed(timings, "training"):
                    await self._train(pantry)
                with _timed(timings, "tuned arms"):
                    for training in trainings:
                        await self._answer_tuned(training, pantry)
        return timings

    @contextmanager
    def _pantry(self) -> Iterator[Pantry]:
        """What the arms are made from; the embedding model is loaded only where an arm needs it."""
        study = self.study
        recipes = " ".join([*study.arms, *(study.training.contexts if any(map(is_tuned, study.arms)) else ())])
        common = {
            "system_text": prompt_text(study, self.base), "pool": self.parts.train, "few_shot_k": study.few_shot.k,
            "hosts": frozenset(study.hosted),
        }  # fmt: skip
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
        with ExitStack() as stack:

            @cache
            def opened(host: str | None) -> Responder:
                return stack.enter_context(self._opened(host, None))

            for arm in todo:
                model = opened(self.study.host_of(arm))
                await self._measure(arm, self.layout.arm(arm), with_context(model, build(arm, pantry())), latency=True)
            best = self._best_untuned()
            if best is not None and not self._is_validated(best):
                responder = with_context(opened(self.study.host_of(best)), build(best, pantry()))
                await self._answer(best, "validation", self.parts.validation, self.layout.arm(best), responder)

    def _opened(self, host: str | None, run: Path | None) -> AbstractContextManager[Responder]:
        """The model of this machine or of a host, or what `run` made of it."""
        if host:
            return self.backends.hosts[host].open_responder(run, self._advanced)
        self.observer.note("loading the model")
        return self.backends.open_responder(run / "model" if run else None, self._advanced)

    async def _answer_tuned(self, training: Training, pantry: OpenPantry) -> None:
        """The held-out set through a training's model; of this machine's, only the chosen one's are timed one at a time."""
        folders = {arm: answers_of(self.layout, training, arm) for arm in asked_of(self.study, training)}
        latency = bool(training.host) or training == self.trained.chosen
        todo = [arm for arm, folder in folders.items() if not self._is_done(folder, latency=latency)]
        if not todo:
            if training.host:
                self.backends.hosts[training.host].release()
            return
        with self._opened(training.host, self.layout.runs / training.job_id) as model:
            for arm in todo:
                cupboard = pantry_of(training, pantry(), examples_of(training, self.study, self.parts))
                name = arm if training.host or len(self.trained.trainings) == 1 else f"{arm} ({training})"
                await self._measure(name, folders[arm], with_context(model, build(arm, cupboard)), latency=latency)

    async def _measure(self, name: str, folder: ArmFolder, responder: Responder, *, latency: bool) -> None:
        await self._answer(name, "test", self.parts.test, folder, responder)
        if latency:
            sample = [e.prompt for e in self.parts.test[: self.study.measure.latency_requests]]
            self.observer.stage(f"{name}: latency of {len(sample)} requests", len(sample))
            await folder.time_alone(responder, sample)

    def _is_done(self, folder: ArmFolder, *, latency: bool) -> bool:
        return folder.is_answered("test", len(self.parts.test)) and (folder.latencies_ms() is not None or not latency)

    def _is_validated(self, arm: str) -> bool:
        return self.layout.arm(arm).is_answered("validation", len(self.parts.validation))

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
        study, parts, trained = self.study, self.parts, self.trained
        together = (*trained.trainings, *trained.elsewhere)
        specs = {t.job_id: spec_of(t, study, parts, self.layout, self.backends.base_model, pantry) for t in together}
        times = f", {len(together)} trainings" if len(together) > 1 else ""
        n_contexts = len(set(study.training.contexts))
        self.observer.note(f"training on {len(parts.train)} examples in {n_contexts} context(s){times}")
        told = await asyncio.gather(
            *([self._train_here(trained.trainings, specs)] if trained.trainings else []),
            *(self._train_elsewhere(t, specs, beside=len(together) > 1) for t in trained.elsewhere),
        )
        events = {job_id: list(of_job) for of_trainer in told for job_id, of_job in of_trainer.items()}
        self.trained = Trained(trained.trainings, events, chosen(study, trained.trainings, events), trained.elsewhere)

    async def _train_here(self, trainings: Sequence[Training], specs: Mapping[JobId, TrainSpec]) -> Events:
        own = {t.job_id: specs[t.job_id] for t in trainings}
        return await train(trainings, own, self.backends.trainer(self.layout.runs), self.observer)

    async def _train_elsewhere(self, training: Training, specs: Mapping[JobId, TrainSpec], *, beside: bool) -> Events:
        """Beside others it has no bar of its own."""
        observer = NotesOnly(self.observer) if beside else self.observer
        with self.backends.hosts[training.host].open_trainer(self.layout.runs) as trainer:
            return await train([training], {training.job_id: specs[training.job_id]}, trainer, observer)


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    t0 = time.monotonic()
    yield
    timings[name] = time.monotonic() - t0

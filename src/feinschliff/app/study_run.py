"""Run a study: baselines, training, tuned arms, grades, comparison, verdict. Killed at any moment, it goes on where it was."""
import fcntl
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from feinschliff.app import study_report
from feinschliff.app.study_answers import CHUNK, ArmFolder, n_chunks
from feinschliff.app.study_file import prompt_text
from feinschliff.app.study_parts import StudyParts, prepare
from feinschliff.arms.context import in_context, with_context
from feinschliff.arms.recipe import Pantry, build
from feinschliff.core.chat import Example
from feinschliff.core.errors import FolderInUse
from feinschliff.core.jobs import Finished, JobId, Started, Step, TrainEvent, TrainSpec, Validation
from feinschliff.core.ports import Embedder, Responder, Trainer
from feinschliff.core.report import Report
from feinschliff.core.study import Study, ingredients
from feinschliff.data.convert import to_jsonl
from feinschliff.data.files import sha256_of, write_atomically, write_text
from feinschliff.evals.registry import make
from feinschliff.retrieval.documents import matching_files, read_documents
from feinschliff.retrieval.index import Index

JOB = JobId("tuned")
# What does not change an answer: a study may be judged anew by other graders, goals and prices without asking again.
JUDGEMENT = {"name", "task", "why", "tried", "arms", "graders", "goal", "traffic", "prices", "measure"}


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


@dataclass(frozen=True, slots=True)
class Layout:
    """What lies where under OUT."""

    out: Path

    @property
    def data(self) -> Path:
        return self.out / "data"

    @property
    def runs(self) -> Path:
        return self.out / "runs"

    def arm(self, name: str) -> ArmFolder:
        return ArmFolder(self.out / "arms" / name)


async def run(study: Study, base: Path, out: Path, backends: Backends, observer: Observer) -> Report:
    """The whole study into `out`; returns what it also wrote to report.json, report.html and failures.jsonl.

    `base` is the study file's folder. Raises FolderInUse where `out` belongs to another study or another process.
    """
    started = time.monotonic()
    with _claimed(out, _fingerprint(study, base, backends)):
        graders = [make(spec, base) for spec in study.graders]  # fail now, not after an hour of answering
        del graders
        job = _Job(study, base, Layout(out), backends, observer, prepare(study, base, out / "data", backends.base_model))
        timings = await job.answer_and_train()
        timings["total"] = time.monotonic() - started
        return study_report.write(study, base, job.layout, job.parts, job.events, backends, timings, observer)


class _Job:
    """One run of one study."""

    def __init__(
        self, study: Study, base: Path, layout: Layout, backends: Backends, observer: Observer, parts: StudyParts
    ) -> None:
        self.study, self.base, self.layout = study, base, layout
        self.backends, self.observer, self.parts = backends, observer, parts
        self.events: list[TrainEvent] = []

    async def answer_and_train(self) -> dict[str, float]:
        """Everything that takes long; seconds by stage, of this run."""
        timings: dict[str, float] = {}
        with self._pantry() as pantry:
            untuned = [a for a in self.study.arms if "tuned" not in ingredients(a)]
            tuned = [a for a in self.study.arms if "tuned" in ingredients(a)]
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
        recipes = " ".join([*study.arms, *(study.training.contexts if any("tuned" in a for a in study.arms) else ())])
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

    async def _answer_arms(self, arms: Sequence[str], tuned: Path | None, pantry: Pantry) -> None:
        """The held-out set through each arm; and the validation part, so that failures can be collected without leaking."""
        todo = [a for a in arms if not self._is_done(a)]
        if not todo:
            return
        self.observer.note("loading the model")
        with self.backends.open_responder(tuned, self._advanced) as model:
            for arm in todo:
                responder = with_context(model, build(arm, pantry))
                await self._answer(arm, "test", self.parts.test, responder)
                if tuned is None:
                    await self._answer(arm, "validation", self.parts.validation, responder)
                sample = [e.prompt for e in self.parts.test[: self.study.measure.latency_requests]]
                self.observer.stage(f"{arm}: latency of {len(sample)} requests", len(sample))
                await self.layout.arm(arm).time_alone(responder, sample)

    def _is_done(self, arm: str) -> bool:
        folder = self.layout.arm(arm)
        validated = "tuned" in ingredients(arm) or folder.is_answered("validation", len(self.parts.validation))
        return validated and folder.is_answered("test", len(self.parts.test)) and folder.latencies_ms() is not None

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

    async def _train(self, pantry: Pantry) -> Path:
        """Train, or go on training, or only read the events of a finished run; the result's folder."""
        folder = self.layout.runs / JOB
        spec = self._train_spec(pantry, folder)
        self.observer.note(f"training on {len(self.parts.train)} examples in {len(spec.train_files)} context(s)")
        async for event in self.backends.trainer(self.layout.runs).run(JOB, spec):
            self.events.append(event)
            self._observe(event)
        return folder / "model"

    def _train_spec(self, pantry: Pantry, folder: Path) -> TrainSpec:
        training = self.study.training
        names = []
        for number, context in enumerate(training.contexts):
            name = f"train-{number}.jsonl"
            if not (folder / name).is_file():
                write_atomically(folder / name, to_jsonl(in_context(self.parts.train, build(context, pantry))))
            names.append(name)
        validation = None
        if self.parts.validation:
            validation = "validation.jsonl"
            if not (folder / validation).is_file():
                chosen = in_context(self.parts.validation, build(training.contexts[0], pantry))
                write_atomically(folder / validation, to_jsonl(chosen))
        return TrainSpec(
            model=str(self.backends.base_model), train_files=tuple(names), validation_file=validation,
            method=training.method, hyperparameters=training.hyperparameters, max_tokens=training.max_tokens,
            precision=training.precision, seed=training.seed,
        )  # fmt: skip

    def _observe(self, event: TrainEvent) -> None:
        match event:
            case Started():
                self.observer.stage(f"training ({event.precision}, {event.trainable_parameters:,} parameters)", event.total_steps)
                if event.n_too_long:
                    self.observer.note(f"{event.n_too_long} training examples are too long and left out, never cut")
            case Step():
                self.observer.advance(event.step)
            case Validation():
                self.observer.note(f"step {event.step}: validation loss {event.valid_loss:.3f}, token accuracy {event.valid_token_accuracy:.1%}")
            case Finished():
                self.observer.note(f"trained {event.trained_tokens:,} tokens in {event.seconds:.0f} s")
            case _:
                pass


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    t0 = time.monotonic()
    yield
    timings[name] = time.monotonic() - t0


@contextmanager
def _claimed(out: Path, fingerprint: str) -> Iterator[None]:
    """`out` for this study and this process alone."""
    mark = out / "study.sha256"
    if out.exists() and not out.is_dir():
        raise FolderInUse(f"{out} is a file, not a folder.", hint="Choose another --out.")
    if out.is_dir() and not mark.is_file() and any(out.iterdir()):
        raise FolderInUse(f"{out} exists and is not the folder of a study.", hint="Choose another --out, or remove it.")
    if mark.is_file() and mark.read_text(encoding="utf-8").strip() != fingerprint:
        raise FolderInUse(
            f"{out} holds a study with other inputs: data, prompt, documents, model, training or split have changed.",
            hint="Choose another --out to keep both, or remove the folder to start anew.",
        )
    write_text(mark, fingerprint + "\n")
    with (out / "lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(f"Another process is running the study in {out}.", hint="Wait for it, or stop it.") from None
        yield


def _fingerprint(study: Study, base: Path, backends: Backends) -> str:
    """Of everything that an answer depends on: the relevant part of the spec, the files it names, the base model."""
    digest = hashlib.sha256(study.model_dump_json(exclude=JUDGEMENT).encode())
    files = [*study.data.files, *study.split.test_files]
    if study.prompt is not None and study.prompt.file is not None:
        files.append(study.prompt.file)
    if study.retrieval is not None:
        files += sorted(f for pattern in study.retrieval.documents for f in matching_files(pattern, base))
    for name in files:
        digest.update(f"{name} {sha256_of(base / name)}\n".encode())
    digest.update(backends.base_sha256.encode())
    return digest.hexdigest()

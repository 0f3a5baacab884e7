"""A remote region as a Trainer: the same specs and events as on this machine, so that a study trains anywhere."""
import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from feinschliff.catalog.regions import Training
from feinschliff.core.errors import NotOffered, ProviderUnreachable, TrainingFailed
from feinschliff.core.finetune import TuningHyperparameters
from feinschliff.core.jobs import (
    TRAIN_EVENT,
    Failed,
    Finished,
    Full,
    Hyperparameters,
    JobId,
    Lora,
    TrainEvent,
    TrainSpec,
)
from feinschliff.data.files import write_atomically, write_text
from feinschliff.providers.remote.account import Account, tuned_name
from feinschliff.providers.remote.events import Mapping as EventMapping
from feinschliff.providers.remote.following import MODEL, Following, checkpoint_folder, expect, told_keys
from feinschliff.providers.remote.named import WHERE, RemoteModel
from feinschliff.providers.remote.orders import Order, find_job, place
from feinschliff.providers.remote.shapes import RemoteJob, RemoteJobId, State
from feinschliff.providers.trainer import claim

EVENTS = "events.jsonl"
PATIENCE_S = 3600.0  # a provider that answers nothing for so long ends the watching; the job goes on there
LARGEST_BATCH = 256
FEWEST_ROWS = 10  # of a file that a provider takes; a smaller validation part is not sent


@dataclass(frozen=True, slots=True)
class Task:
    """What the specs do not say. `training` is Azure's type, `concurrency` how many jobs are there at once; `admit` is asked before a new
    job is made, gives the tokens that it will train, and raises OverBudget; `owner` as in an Order.
    """

    model: str
    training: Training | None = None
    suffix: str | None = None
    concurrency: int = 1
    admit: Callable[[Path, TuningHyperparameters], int] | None = None
    owner: str = ""


class RemoteTrainer:
    """Follows jobs in `root/<job id>`. Satisfies core.ports.Trainer."""

    def __init__(self, root: Path, account: Account, task: Task) -> None:
        self._root, self._account, self._task = root, account, task

    async def run(self, specs: Mapping[JobId, TrainSpec], /) -> AsyncIterator[tuple[JobId, TrainEvent]]:
        """Every job's events from its beginning. A job that failed is told once; run again, it is asked for anew.

        Raises NotOffered for settings that no provider has, FolderInUse, BadData, ProviderRefused, ProviderUnreachable after an hour
        without an answer, and TrainingFailed once the others have ended.
        """
        for spec in specs.values():
            check_spec(spec, self._account.name)
        for job_id, spec in specs.items():
            claim(self._root / job_id, spec)
        logs = {job_id: Log(self._root / job_id / EVENTS) for job_id in specs}
        for job_id, log in logs.items():
            for event in log.events:
                yield job_id, event
        waiting = [job_id for job_id, log in logs.items() if not isinstance(log.last, Finished)]
        async for job_id, event in self._train(waiting, specs, logs):
            yield job_id, event
        for log in logs.values():
            if isinstance(log.last, Failed):
                raise TrainingFailed(f"Training in {self._account.name} failed: {log.last.message}", hint=AGAIN)

    async def _train(
        self, waiting: list[JobId], specs: Mapping[JobId, TrainSpec], logs: "Mapping[JobId, Log]"
    ) -> AsyncIterator[tuple[JobId, TrainEvent]]:
        """What is new of those that have not finished, as many at once as the region takes."""
        running: dict[JobId, Following] = {}
        pauses = self._account.pauses()
        while waiting or running:
            while waiting and len(running) < self._task.concurrency:
                job_id = waiting.pop(0)
                running[job_id] = await self._begin(self._root / job_id, specs[job_id], logs[job_id])
            for job_id, following in list(running.items()):
                for event in await self._look(following):
                    pauses = self._account.pauses()
                    self._keep(job_id, following, event)
                    logs[job_id].append(event)
                    yield job_id, event
                if following.job.state.ended:
                    del running[job_id]
            if running:
                await asyncio.sleep(next(pauses))

    async def _begin(self, folder: Path, spec: TrainSpec, log: "Log") -> Following:
        order, n_examples = order_of(folder, spec, self._task)
        again = isinstance(log.last, Failed)
        job = await asyncio.to_thread(self._placed, order, again=again)
        if again:
            log.start_anew()
        n_epochs = order.hyperparameters.n_epochs
        following = Following(self._account, job, EventMapping(n_examples, 0 if n_epochs == "auto" else n_epochs), told_keys(log.events))
        following.on_checkpoint = lambda step, model: self._write(folder / checkpoint_folder(step), model, following.id)
        return following

    def _placed(self, order: Order, *, again: bool) -> RemoteJob:
        there = find_job(self._account, order)
        if self._task.admit is None or not (there is None or (again and there.state in (State.FAILED, State.CANCELLED))):
            return place(self._account, order, again=again)
        tokens = self._task.admit(order.train, order.hyperparameters)
        job = place(self._account, order, again=again)
        expect(self._account, job, tokens)
        return job

    async def _look(self, following: Following) -> list[TrainEvent]:
        """Raises ProviderUnreachable when there has been no answer for long."""
        silent_s, pause_s = 0.0, self._account.poll_s
        while True:
            try:
                return await asyncio.to_thread(following.look)
            except ProviderUnreachable as error:
                pause_s = max(min(2 * pause_s, 60.0), error.retry_after_s)
                silent_s += pause_s
                if silent_s > PATIENCE_S:
                    raise
                await asyncio.to_thread(self._account.sleep, pause_s)

    def _keep(self, job_id: JobId, following: Following, event: TrainEvent) -> None:
        """Before its event is: what an event names is there."""
        if isinstance(event, Finished):
            self._write(self._root / job_id / MODEL, tuned_name(following.job, self._account.name), following.id)

    def _write(self, folder: Path, model: str, job: RemoteJobId) -> None:
        named = RemoteModel(region=self._account.name, model=model, job=job)
        write_text(folder / WHERE, named.model_dump_json(indent=2))


AGAIN = "Mend what it says and run the same command again: that asks for a new job."


class Log:
    """`events.jsonl`, as the training program writes it; half a line of a killed process is cut off."""

    def __init__(self, file: Path) -> None:
        self._file = file
        raw = file.read_bytes() if file.is_file() else b""
        whole = raw[: raw.rfind(b"\n") + 1]
        if whole != raw:
            write_atomically(file, whole)
        self.events: list[TrainEvent] = [TRAIN_EVENT.validate_json(line) for line in whole.splitlines()]

    @property
    def last(self) -> TrainEvent | None:
        return self.events[-1] if self.events else None

    def append(self, event: TrainEvent) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(event.model_dump_json() + "\n")
        self.events.append(event)

    def start_anew(self) -> None:
        """For another attempt, whose steps have the same numbers."""
        write_atomically(self._file, b"")
        self.events.clear()


def order_of(folder: Path, spec: TrainSpec, task: Task) -> tuple[Order, int]:
    """What a run's folder orders, and its number of examples. Doing it twice gives the same files, and so the same order."""
    train = folder / "remote-train.jsonl"
    n_examples = interleave([folder / name for name in spec.train_files], train)
    held = None
    if spec.validation_file is not None:
        written = folder / "remote-valid.jsonl"
        held = written if interleave([folder / spec.validation_file], written) >= FEWEST_ROWS else None
    order = Order(
        model=task.model, train=train, validation=held, suffix=task.suffix, seed=spec.seed, hyperparameters=hosted(spec.hyperparameters),
        training=task.training, owner=task.owner,
    )  # fmt: skip
    return order, n_examples


def check_spec(spec: TrainSpec, region: str) -> None:
    """Raises NotOffered for what hosted tuning has no word for; silently leaving it out would measure something else."""
    method = spec.method
    plain = not isinstance(method, Full) and method == Lora(rank=method.rank, alpha=method.alpha, targets=method.targets)
    asked = {
        "method": not plain, "early_stopping": spec.early_stopping is not None, "keep_best": spec.keep_best, "lr_probe": spec.lr_probe,
        "max_tokens": spec.max_tokens is not None, "grouping": spec.grouping == "epoch",
        "hyperparameters.batch_size": spec.hyperparameters.batch_size != "auto" and spec.hyperparameters.batch_size > LARGEST_BATCH,
    }  # fmt: skip
    names = [name for name, there in asked.items() if there]
    if names:
        raise NotOffered(
            f"{region} does not offer what [training] asks for: {', '.join(names)}.",
            hint="There, epochs, batch_size (up to 256), learning_rate_multiplier and seed are chosen, and no more.",
        )


def hosted(h: Hyperparameters) -> TuningHyperparameters:
    """Rates are the provider's own: only a multiplier of them can be asked for."""
    multiplier = h.learning_rate_multiplier
    return TuningHyperparameters(
        n_epochs=h.n_epochs, batch_size=h.batch_size, learning_rate_multiplier="auto" if multiplier == 1.0 else multiplier
    )


def interleave(files: list[Path], target: Path) -> int:
    """Row i from file i mod n: a provider reads one file, in which every context has its share. Returns the number of rows."""
    contents = [file.read_bytes().splitlines(keepends=True) for file in files]
    rows = [contents[i % len(contents)][i] for i in range(len(contents[0]))]
    write_atomically(target, b"".join(only_messages(row) for row in rows))
    return len(rows)


def only_messages(row: bytes) -> bytes:
    """Without the fields that came with the data: providers refuse keys that they do not know."""
    given = json.loads(row)
    kept = {key: given[key] for key in ("messages", "tools", "parallel_tool_calls") if given.get(key) is not None}
    return json.dumps(kept, ensure_ascii=False).encode() + b"\n"

"""Carries jobs out, one state at a time: files checked → queued → trained → model registered.

Every state is a row, every change one transaction, and the training program resumes exactly; so a kill at any moment, of the
server, of the program, or of both, is answered by doing the same step again. Events carry keys: what was told is not told twice.
"""
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import assert_never

from pydantic import ValidationError

from feinschliff.app import admission, files, jobs
from feinschliff.app.elsewhere import Elsewhere
from feinschliff.app.file_check import describe, run_check
from feinschliff.app.job_progress import Progress, owner
from feinschliff.app.job_queue import concurrency
from feinschliff.app.lineage import START, bring_start
from feinschliff.app.residency import check_marks
from feinschliff.app.service import Service
from feinschliff.catalog import available
from feinschliff.catalog.fit import duration
from feinschliff.catalog.regions import Azure, Machine, OpenAi, Ray, Region
from feinschliff.catalog.workload import Counted, FileSizes, at_least
from feinschliff.compute import process
from feinschliff.compute.ray import OnRay
from feinschliff.core.errors import (
    DoesNotFit,
    FeinschliffError,
    ModelUnavailable,
    NotOffered,
    OverBudget,
    ProgramFailed,
)
from feinschliff.core.finetune import NewJob
from feinschliff.core.jobs import TRAIN_EVENT, Finished, Hyperparameters, Lora, TrainSpec
from feinschliff.core.ports import Compute
from feinschliff.core.service import FileStatus, JobStatus, ModelName, ProjectId
from feinschliff.core.service_errors import NoRoom, Unavailable, is_full
from feinschliff.data.files import write_text
from feinschliff.providers.run_log import RunLogs
from feinschliff.providers.training_runs import TrainingRuns
from feinschliff.store import files as file_rows
from feinschliff.store import job_usage
from feinschliff.store import jobs as rows
from feinschliff.store.blobs import free_bytes
from feinschliff.store.database import Session
from feinschliff.store.tables import JobRow

AGAIN_S = 10.0  # until a region that did not answer is asked again
Placed = tuple[str, Region]  # a region's name and what it is
MOST_DEATHS = 3  # of the training program in a row without a further step; then the job fails


class Training:
    """The background work on all jobs. One thread calls `step`."""

    def __init__(self, service: Service, runs: TrainingRuns) -> None:
        self._service = service
        self._runs = runs
        self._logs = RunLogs()
        self._progress = Progress(service, runs.root)
        self._elsewhere = Elsewhere(service, runs)
        self._room: dict[str, int] = {}  # job → bytes that must be free before it is tried again
        self._not_before: dict[str, float] = {}  # job → when its region is asked again, by the monotonic clock

    def step(self) -> bool:
        """Bring every job as far as it can go now; False where nothing changed."""
        changed = self._stop_what_should_not_run() | self._elsewhere.step()
        with self._service.database.read() as db:
            waiting = rows.jobs_in(db, (JobStatus.VALIDATING, JobStatus.QUEUED, JobStatus.RUNNING))
        places = {job.id: self._region(job) for job in waiting}
        n_running = Counter(place[0] for job in waiting if job.status == JobStatus.RUNNING and (place := places[job.id]))
        for job in waiting:
            place = places[job.id]
            try:
                moved = self._advance(job, place, may_start=place is not None and n_running[place[0]] < concurrency(self._service, place[0]))
            except (FeinschliffError, OSError) as error:
                if not is_full(error):
                    raise
                moved = self._wait_for_room(job)
            changed |= moved
            if place is not None:
                n_running[place[0]] += moved and job.status == JobStatus.QUEUED
        return changed

    def _advance(self, job: JobRow, place: Placed | None, *, may_start: bool) -> bool:
        """One job. Raises Unavailable, NoRoom: then nothing of it was changed."""
        match JobStatus(job.status):
            case JobStatus.VALIDATING:
                return self._change(job.id, JobStatus.VALIDATING, self._validate)
            case JobStatus.QUEUED if may_start:
                if self._free_bytes() < self._room.get(job.id, self._service.settings.limits.spare_bytes):
                    raise NoRoom("The job would not find room.")
                return place is not None and self._prepare(job, place[1])
            case JobStatus.RUNNING if place is not None:
                return self._follow(job, place)
            case _:
                return False

    def _free_bytes(self) -> int:
        return free_bytes(self._service.settings.data_dir)

    def _wait_for_room(self, job: JobRow) -> bool:
        """Tell once that the disk is full, if even that can be written. What was not enough for the job will not be another time."""
        free, spare = self._free_bytes(), self._service.settings.limits.spare_bytes
        if job.status == JobStatus.QUEUED and free < self._room.get(job.id, 0):
            return False  # told before
        self._room[job.id] = spare if free < spare else free + spare
        try:
            return self._change(job.id, JobStatus(job.status), self._progress.wait_for_room)
        except Unavailable:
            return False

    def _region(self, job: JobRow) -> Placed | None:
        """None where its region is no longer configured, or, once the job has started, does not keep its data any more: the job waits."""
        try:
            placed = admission.place_of(self._service, NewJob.model_validate(job.request))
            if job.started_at is not None:  # until then `admission.at_start` looks
                check_marks(job.stays_in or {}, *placed)
            return placed
        except FeinschliffError as error:
            said = f"The job waits for its region. {error.message}"
            self._change(job.id, JobStatus(job.status), lambda db, row: jobs.warn(self._service, db, row, [said]) is None)
            return None

    def stop(self) -> None:
        """At the server's end: programs stop, and go on from their last saved step at the next start. Jobs at providers just go on."""
        self._elsewhere.stop()
        for job_id in self._runs.known():
            self._runs.stop(job_id)

    def _change(self, job_id: str, expected: JobStatus, change: Callable[[Session, JobRow], bool]) -> bool:
        """`change` in one transaction, unless a request has changed the job's state meanwhile."""
        with self._service.database.write() as db:
            row = rows.job_of(db, job_id)
            return row is not None and row.status == expected and change(db, row)

    def _stop_what_should_not_run(self) -> bool:
        known = self._runs.known()
        if not known:
            return False
        with self._service.database.read() as db:
            running = {job.id for job in rows.jobs_in(db, (JobStatus.RUNNING,))}
        for job_id in known - running:
            self._runs.stop(job_id)
            self._logs.forget(self._runs.folder(job_id) / "events.jsonl")
        return bool(known - running)

    def _validate(self, db: Session, row: JobRow) -> bool:
        for file_id in filter(None, (row.training_file, row.validation_file)):
            file = file_rows.find_file(db, ProjectId(row.project_id), file_id, self._service.clock())
            if file is None or file.status == FileStatus.ERROR:
                why = f"The file {file_id} is gone." if file is None else f"The file {file_id} failed validation. {file.status_details}"
                param = "training_file" if file_id == row.training_file else "validation_file"
                return self._progress.fail(db, row, "invalid_training_file", why, param)
            if file.status != FileStatus.PROCESSED:
                return False
        row.status, row.queued_at = JobStatus.QUEUED, self._service.clock()
        jobs.tell(self._service, db, row, "queued", "Files validated, moving job to queued state")
        return True

    def _prepare(self, job: JobRow, place: Region) -> bool:
        """Write the run's folder, which may take minutes, and then start. Doing it twice gives the same files."""
        try:
            self._write_run(job, place)
        except Unavailable:
            raise
        except FeinschliffError as error:
            if is_full(error):
                raise NoRoom(error.message) from error
            code, why, param = error.code, f"{error.message} {error.hint}".strip(), _at_fault(error)
            self._change(job.id, JobStatus.QUEUED, lambda db, row: self._progress.fail(db, row, code, why, param))
            return False

        def started(db: Session, row: JobRow) -> bool:
            row.status = JobStatus.RUNNING
            self._room.pop(row.id, None)
            if row.started_at is None:
                row.started_at = self._service.clock()
                jobs.tell(self._service, db, row, "started", "Fine-tuning job started")
                self._forecast(db, row)
            return True

        return self._change(job.id, JobStatus.QUEUED, started)

    def _write_run(self, job: JobRow, place: Region) -> None:
        folder = self._runs.folder(job.id)
        if (folder / "spec.json").is_file():
            return
        new = NewJob.model_validate(job.request)
        model = None if isinstance(place, Azure | OpenAi) else self._service.offered.folder(ModelName(job.model))
        counted = self._write_chats(job, job.training_file, folder / "train.jsonl", model)
        if job.validation_file is not None:
            self._write_chats(job, job.validation_file, folder / "valid.jsonl", model)
        if not self._change(job.id, JobStatus.QUEUED, lambda db, row: self._admit(db, row, counted)):
            return
        wanted, method = new.hyperparameters, bring_start(self._service, job, folder)
        spec = TrainSpec(
            model=job.model if model is None else str(model.resolve()), train_files=("train.jsonl",), seed=job.seed, method=method or Lora(),
            start_adapter=None if method is None else START,
            validation_file=None if job.validation_file is None else "valid.jsonl",
            hyperparameters=Hyperparameters(
                n_epochs=wanted.n_epochs, batch_size=wanted.batch_size, learning_rate="auto", learning_rate_multiplier=wanted.multiplier
            ),
        )  # fmt: skip
        write_text(folder / "spec.json", spec.model_dump_json(indent=2))

    def _admit(self, db: Session, row: JobRow, counted: Counted) -> bool:
        """Now that the tokens are known. Raises DoesNotFit, OverBudget."""
        admitted = admission.at_start(self._service, db, row, counted)
        usage = job_usage.usage_of(db, row.id)
        if usage is not None:
            usage.expected_tokens, usage.expected_seconds = admitted.tokens, admitted.seconds
        jobs.warn(self._service, db, row, admitted.warnings)
        return True

    def _forecast(self, db: Session, row: JobRow) -> None:
        usage = job_usage.usage_of(db, row.id)
        if usage is not None and usage.expected_seconds >= 1:
            row.estimated_finish = self._service.clock() + int(usage.expected_seconds)
            about = duration(usage.expected_seconds)
            jobs.tell(self._service, db, row, "forecast", f"{usage.expected_tokens:,} tokens over all epochs; about {about}")

    def _write_chats(self, job: JobRow, file_id: str, target: Path, model: Path | None) -> Counted:
        """Counted by the model's tokenizer where it is here. Raises NotFound, CorruptBlob, ProgramFailed."""
        service = self._service
        file = files.get_file(service, owner(job), file_id)
        target.parent.mkdir(parents=True, exist_ok=True)
        check = run_check(service, files.content_of(service, file), model, target)
        if check.n_errors:
            raise ProgramFailed(describe(check), hint="Correct the file and upload it again.")
        if model is None:
            return at_least(FileSizes(n_examples=check.n_examples, characters=check.n_characters, longest=check.longest_characters))
        return Counted(n_examples=check.n_examples, tokens=check.n_tokens or 0, trained=check.n_trained or 0, longest=check.longest or 0)

    def _follow(self, job: JobRow, place: Placed) -> bool:
        """Take over what the program has said, and see whether it lives."""
        alive = self._runs.alive(job.id)  # asked before reading, so that nothing written before the end is missed
        log = self._runs.folder(job.id) / "events.jsonl"
        lines = self._logs.after(log, job.n_seen)
        if lines:
            try:
                events = [TRAIN_EVENT.validate_json(line) for line in lines]
            except ValidationError:
                why = f"{log} is damaged after line {job.n_seen}. Restore the data folder from a backup, or create the job again."
                return self._change(job.id, JobStatus.RUNNING, lambda db, row: self._progress.fail(db, row, "corrupt_run", why, None))
            # A finished run stores a file, and whoever stores one takes the blobs' lock before the database's.
            with self._service.blobs.locked() if any(isinstance(e, Finished) for e in events) else nullcontext():
                self._change(job.id, JobStatus.RUNNING, lambda db, row: self._progress.take(db, row, events))
            return True
        return not alive and time.monotonic() >= self._not_before.get(job.id, 0.0) and self._start(job, place, log)

    def _start(self, job: JobRow, place: Placed, log: Path) -> bool:
        """The program, unless it has ended too often. Raises NoRoom where that is why it ended."""
        if self._runs.unreachable(job.id) and job.id not in self._not_before:
            self._not_before[job.id] = time.monotonic() + AGAIN_S
            said = f"The job waits for its region. {self._runs.last_words(job.id)}"
            return self._change(job.id, JobStatus.RUNNING, lambda db, row: jobs.warn(self._service, db, row, [said]) is None)
        if self._runs.died(job.id) and self._free_bytes() < self._service.settings.limits.spare_bytes:
            raise NoRoom(f"The disk of {log.parent} is full.")
        waited = self._not_before.pop(job.id, None) is not None

        def ends(db: Session, row: JobRow) -> bool:
            if not log.exists():
                row.n_seen = 0  # the run begins anew: a backup that was restored has no more of it than what it started from
            row.n_deaths += self._runs.died(job.id) and not waited
            if row.n_deaths < MOST_DEATHS:
                return False
            memory = f"this machine has {available.all_bytes() >> 20:,} MiB of memory, {available.available_bytes() >> 20:,} of them free now"
            why = f"The training program ended {MOST_DEATHS} times without a further step; if that was for lack of memory ({memory}), use a smaller model or shorter examples."
            return self._progress.fail(db, row, "training_died", f"{why} {self._runs.last_words(job.id)}".strip(), None)

        if not self._change(job.id, JobStatus.RUNNING, ends):
            self._runs.start(job.id, self._compute(job, *place))
        return True

    def _compute(self, job: JobRow, name: str, place: Region) -> Compute:
        match place:
            case Machine():
                return process.Here()
            case Ray():
                return OnRay(place.address, cpus=place.cpus, gpus=place.gpus, workers=place.workers)
            case Azure() | OpenAi():
                return self._elsewhere.follow(job, (name, place))
            case _:
                assert_never(place)


def _at_fault(error: FeinschliffError) -> str | None:
    """The field of the job's request."""
    match error:
        case OverBudget():
            return None
        case DoesNotFit() | NotOffered() | ModelUnavailable():
            return "model"
        case _:
            return "training_file"

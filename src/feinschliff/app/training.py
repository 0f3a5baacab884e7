"""Carries jobs out, one state at a time: files checked → queued → trained → model registered.

Every state is a row, every change one transaction, and the training program resumes exactly; so a kill at any moment, of the
server, of the program, or of both, is answered by doing the same step again. Events carry keys: what was told is not told twice.
"""
import csv
import io
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from feinschliff.app import files, jobs
from feinschliff.app.file_check import describe, run_check
from feinschliff.app.service import Service, new_id
from feinschliff.core.errors import FeinschliffError, ProgramFailed
from feinschliff.core.finetune import NewJob
from feinschliff.core.jobs import (
    TRAIN_EVENT,
    Checkpoint,
    Failed,
    Finished,
    Hyperparameters,
    Started,
    Step,
    TrainEvent,
    TrainSpec,
    Validation,
)
from feinschliff.core.service import Caller, FileStatus, JobStatus, KeyId, ModelName, ProjectId, Scope
from feinschliff.data.files import write_text
from feinschliff.providers.training_runs import TrainingRuns
from feinschliff.store import files as file_rows
from feinschliff.store import jobs as rows
from feinschliff.store.database import Session
from feinschliff.store.tables import CheckpointRow, JobRow, ModelRow

MOST_DEATHS = 3  # of the training program in a row without a further step; then the job fails
RESULTS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")


class Training:
    """The background work on all jobs. One thread calls `step`."""

    def __init__(self, service: Service, runs: TrainingRuns) -> None:
        self._service = service
        self._runs = runs

    def step(self) -> bool:
        """Bring every job as far as it can go now; False where nothing changed."""
        changed = self._stop_what_should_not_run()
        with self._service.database.read() as db:
            waiting = rows.jobs_in(db, (JobStatus.VALIDATING, JobStatus.QUEUED, JobStatus.RUNNING))
        n_running = sum(job.status == JobStatus.RUNNING for job in waiting)
        for job in waiting:
            match JobStatus(job.status):
                case JobStatus.VALIDATING:
                    changed |= self._change(job.id, JobStatus.VALIDATING, self._validate)
                case JobStatus.QUEUED if n_running < self._service.settings.limits.running_jobs:
                    n_running += self._prepare(job)
                    changed = True
                case JobStatus.RUNNING:
                    changed |= self._follow(job)
                case _:
                    pass
        return changed

    def stop(self) -> None:
        """At the server's end: programs stop, and go on from their last saved step at the next start."""
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
        return bool(known - running)

    def _validate(self, db: Session, row: JobRow) -> bool:
        for file_id in filter(None, (row.training_file, row.validation_file)):
            file = file_rows.find_file(db, ProjectId(row.project_id), file_id, self._service.clock())
            if file is None or file.status == FileStatus.ERROR:
                why = f"The file {file_id} is gone." if file is None else f"The file {file_id} failed validation. {file.status_details}"
                param = "training_file" if file_id == row.training_file else "validation_file"
                return self._fail(db, row, "invalid_training_file", why, param)
            if file.status != FileStatus.PROCESSED:
                return False
        row.status, row.queued_at = JobStatus.QUEUED, self._service.clock()
        jobs.tell(self._service, db, row, "queued", "Files validated, moving job to queued state")
        return True

    def _prepare(self, job: JobRow) -> bool:
        """Write the run's folder, which may take minutes, and then start. Doing it twice gives the same files."""
        try:
            self._write_run(job)
        except FeinschliffError as error:
            code, why = error.code, f"{error.message} {error.hint}".strip()
            self._change(job.id, JobStatus.QUEUED, lambda db, row: self._fail(db, row, code, why, "training_file"))
            return False

        def started(db: Session, row: JobRow) -> bool:
            row.status = JobStatus.RUNNING
            if row.started_at is None:
                row.started_at = self._service.clock()
                jobs.tell(self._service, db, row, "started", "Fine-tuning job started")
            return True

        return self._change(job.id, JobStatus.QUEUED, started)

    def _write_run(self, job: JobRow) -> None:
        folder = self._runs.folder(job.id)
        if (folder / "spec.json").is_file():
            return
        new = NewJob.model_validate(job.request)
        model = self._service.offered.folder(ModelName(job.model))
        self._write_chats(job, job.training_file, folder / "train.jsonl", model)
        if job.validation_file is not None:
            self._write_chats(job, job.validation_file, folder / "valid.jsonl", model)
        wanted = new.hyperparameters
        multiplier = 1.0 if wanted.learning_rate_multiplier == "auto" else wanted.learning_rate_multiplier
        spec = TrainSpec(
            model=str(model.resolve()), train_files=("train.jsonl",), seed=job.seed,
            validation_file=None if job.validation_file is None else "valid.jsonl",
            hyperparameters=Hyperparameters(
                n_epochs=wanted.n_epochs, batch_size=wanted.batch_size, learning_rate="auto", learning_rate_multiplier=multiplier
            ),
        )  # fmt: skip
        write_text(folder / "spec.json", spec.model_dump_json(indent=2))

    def _write_chats(self, job: JobRow, file_id: str, target: Path, model: Path) -> None:
        """Raises NotFound, CorruptBlob, ProgramFailed."""
        service = self._service
        file = files.get_file(service, _owner(job), file_id)
        target.parent.mkdir(parents=True, exist_ok=True)
        check = run_check(service, service.blobs.checked(file.sha256), model, target)
        if check.n_errors:
            raise ProgramFailed(describe(check), hint="Correct the file and upload it again.")

    def _follow(self, job: JobRow) -> bool:
        """Take over what the program has said, and see whether it lives."""
        alive = self._runs.alive(job.id)  # asked before reading, so that nothing written before the end is missed
        lines = _lines_after(self._runs.folder(job.id) / "events.jsonl", job.n_seen)
        if lines:
            events = [TRAIN_EVENT.validate_json(line) for line in lines]
            # A finished run stores a file, and whoever stores one takes the blobs' lock before the database's.
            with self._service.blobs.locked() if any(isinstance(e, Finished) for e in events) else nullcontext():
                self._change(job.id, JobStatus.RUNNING, lambda db, row: self._take(db, row, events))
            return True
        if alive:
            return False

        def restart(db: Session, row: JobRow) -> bool:
            row.n_deaths += self._runs.died(job.id)
            if row.n_deaths < MOST_DEATHS:
                return False
            why = f"The training program ended {MOST_DEATHS} times without a further step; if it was killed for memory, use a smaller model or shorter examples."
            return self._fail(db, row, "training_died", f"{why} {self._runs.last_words(job.id)}".strip(), None)

        if not self._change(job.id, JobStatus.RUNNING, restart):
            self._runs.start(job.id)
        return True

    def _take(self, db: Session, row: JobRow, events: list[TrainEvent]) -> bool:
        row.n_seen += len(events)
        before = rows.told(db, row.id, {_key(e) for e in events})
        for event in events:
            if JobStatus(row.status).ended:
                break
            key = _key(event)
            if key in before:
                continue  # a step made again after a kill
            before.add(key)
            self._tell(db, row, event)
        return True

    def _tell(self, db: Session, row: JobRow, event: TrainEvent) -> None:
        service = self._service
        match event:
            case Started():
                if event.hyperparameters is not None:
                    new = NewJob.model_validate(row.request).hyperparameters
                    h = event.hyperparameters
                    rate = 1.0 if new.learning_rate_multiplier == "auto" else new.learning_rate_multiplier
                    row.hyperparameters = {"n_epochs": h.n_epochs, "batch_size": h.batch_size, "learning_rate_multiplier": rate}
                if event.n_too_long:
                    lines = ", ".join(map(str, event.too_long_lines))
                    jobs.tell(service, db, row, _key(event), f"{event.n_too_long} examples are longer than the model reads and are left out; lines {lines}", level="warn")
            case Step():
                row.n_deaths = 0
                row.estimated_finish = service.clock() + int(event.eta_s)
                message = f"Step {event.step}/{event.total_steps}: training loss={event.train_loss:.2f}"
                jobs.tell(service, db, row, _key(event), message, data=_metrics(event))
            case Validation():
                self._add_validation(db, row, event)
            case Checkpoint():
                self._keep_checkpoint(db, row, event)
            case Finished():
                self._register(db, row, event)
            case Failed():
                self._fail(db, row, event.code, f"{event.message} {event.hint}".strip(), None)
            case _:
                pass

    def _add_validation(self, db: Session, row: JobRow, event: Validation) -> None:
        """To the event of the step after which it was measured."""
        db.flush()
        step = rows.find_event(db, row.id, f"step-{event.step}")
        if step is not None:
            step.message += f", validation loss={event.valid_loss:.2f}"
            step.data = step.data | {"full_valid_loss": event.valid_loss, "full_valid_mean_token_accuracy": event.valid_token_accuracy}

    def _keep_checkpoint(self, db: Session, row: JobRow, event: Checkpoint) -> None:
        if rows.has_checkpoint(db, row.id, event.step):
            return
        service = self._service
        name = f"{self._name(row)}:ckpt-step-{event.step}"
        db.flush()
        metrics = {k: v for e in rows.metrics_of(db, row.id) if e.data.get("step") == event.step for k, v in e.data.items()}
        metrics = {k: v for k, v in metrics.items() if k in _SHOWN}
        db.add(CheckpointRow(id=new_id("ftckpt_"), job_id=row.id, step=event.step, model=name, metrics=metrics, created_at=service.clock()))
        self._add_model(db, row, name, event.path, event.step)
        jobs.tell(service, db, row, _key(event), f"Checkpoint created at step {event.step}: {name}")

    def _register(self, db: Session, row: JobRow, event: Finished) -> None:
        service = self._service
        name = self._name(row)
        self._add_model(db, row, name, event.path, None)
        self._keep_checkpoint(db, row, Checkpoint(step=event.step, path=event.path))  # the program makes none after the last epoch
        row.fine_tuned_model, row.trained_tokens = name, event.trained_tokens
        row.result_files = [self._results(db, row)]
        jobs.tell(service, db, row, "model", f"New fine-tuned model created: {name}")
        jobs.end(service, db, row, JobStatus.SUCCEEDED, "The job has successfully completed")

    def _add_model(self, db: Session, row: JobRow, name: str, path: str, step: int | None) -> None:
        folder = (self._runs.folder(row.id) / path).relative_to(self._service.settings.data_dir)
        db.add(
            ModelRow(
                name=name, project_id=row.project_id, job_id=row.id, base=row.model, folder=str(folder), step=step,
                created_at=self._service.clock(),
            )
        )  # fmt: skip

    def _results(self, db: Session, row: JobRow) -> str:
        """The file of step metrics, as the hosted services write it."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(RESULTS)
        db.flush()
        for e in rows.metrics_of(db, row.id):
            d = e.data
            table.writerow(
                [d["step"], d["train_loss"], d["train_mean_token_accuracy"], d.get("full_valid_loss", ""), d.get("full_valid_mean_token_accuracy", "")]
            )
        service = self._service
        with service.blobs.incoming() as incoming:  # within the blobs' lock, see `_follow`
            incoming.write(text.getvalue().encode())
            incoming.finish()
            return files.keep(service, db, _owner(row), incoming, files.NewFile("step_metrics.csv", "fine-tune-results")).id

    def _fail(self, db: Session, row: JobRow, code: str, message: str, param: str | None) -> bool:
        row.error = {"code": code, "message": message, "param": param}
        row.trained_tokens = jobs.trained_tokens(db, row) or None
        jobs.end(self._service, db, row, JobStatus.FAILED, f"The job failed: {message}", level="error")
        return True

    def _name(self, row: JobRow) -> str:
        return f"ft:{row.model}:{self._service.settings.organization}:{row.suffix or ''}:{row.id.removeprefix('ftjob-')[:8]}"


_SHOWN = frozenset({
    "step", "train_loss", "train_mean_token_accuracy", "valid_loss", "valid_mean_token_accuracy", "full_valid_loss",
    "full_valid_mean_token_accuracy",
})  # fmt: skip


def _owner(row: JobRow) -> Caller:
    """The background work acts for the job's project."""
    return Caller(ProjectId(row.project_id), KeyId("service"), Scope.WRITE, row.id)


def _lines_after(path: Path, n: int) -> list[bytes]:
    """Whole lines after the first `n`."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        lines = [line for i, line in enumerate(file) if i >= n]
    return [line for line in lines if line.endswith(b"\n")]


def _key(event: TrainEvent) -> str:
    step = getattr(event, "step", None)
    return f"run-{event.kind}" if step is None else f"{event.kind}-{step}"


def _metrics(event: Step) -> dict[str, object]:
    return {
        "step": event.step, "total_steps": event.total_steps, "train_loss": event.train_loss,
        "train_mean_token_accuracy": event.train_token_accuracy, "trained_tokens": event.trained_tokens,
        "learning_rate": event.learning_rate,
    }  # fmt: skip

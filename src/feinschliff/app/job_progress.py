"""What the training program says of a job becomes the job's state, its events, checkpoints, results and model."""
import hashlib
from collections.abc import Sequence
from pathlib import Path

from feinschliff.app import jobs, results
from feinschliff.app.model_card import write_card
from feinschliff.app.service import Service, new_id
from feinschliff.core.finetune import NewJob
from feinschliff.core.jobs import Checkpoint, Failed, Finished, Started, Step, Told, TrainEvent, Validation
from feinschliff.core.service import Caller, JobStatus, KeyId, ProjectId, Scope
from feinschliff.core.service_errors import NO_ROOM_HINT, NoRoom
from feinschliff.providers.remote.named import read_remote
from feinschliff.store import job_usage
from feinschliff.store import jobs as rows
from feinschliff.store.database import Session
from feinschliff.store.tables import CheckpointRow, JobRow, ModelRow

FULL = f"The disk is full: the job waits, and goes on by itself when there is room. {NO_ROOM_HINT}"


class Progress:
    """All within the transaction of whoever calls. `runs` is the folder of the run folders."""

    def __init__(self, service: Service, runs: Path) -> None:
        self._service = service
        self._runs = runs

    def take(self, db: Session, row: JobRow, events: Sequence[TrainEvent]) -> bool:
        """Take over what is new; a step that was made again after a kill is known already."""
        row.n_seen += len(events)
        before = rows.told(db, row.id, {_key(e) for e in events})
        for event in events:
            if row.status != JobStatus.RUNNING:  # ended, or waiting for room
                break
            key = _key(event)
            if key in before:
                continue
            before.add(key)
            self._tell(db, row, event)
        return True

    def _tell(self, db: Session, row: JobRow, event: TrainEvent) -> None:
        service = self._service
        match event:
            case Started():
                if event.hyperparameters is not None:
                    wanted, h = NewJob.model_validate(row.request).hyperparameters, event.hyperparameters
                    row.hyperparameters = {
                        "n_epochs": h.n_epochs, "batch_size": h.batch_size, "learning_rate_multiplier": wanted.multiplier,
                    }  # fmt: skip
                if event.n_too_long:
                    lines = ", ".join(map(str, event.too_long_lines))
                    jobs.tell(service, db, row, _key(event), f"{event.n_too_long} examples are longer than the model reads and are left out; lines {lines}", level="warn")
            case Step():
                row.n_deaths = 0
                if (usage := job_usage.usage_of(db, row.id)) is not None:
                    usage.tokens += event.logical_tokens
                    usage.seconds += event.seconds
                row.estimated_finish = service.clock() + int(event.eta_s)
                message = f"Step {event.step}/{event.total_steps}: training loss={event.train_loss:.2f}"
                jobs.tell(service, db, row, _key(event), message, data=_metrics(event))
            case Validation():
                self._add_validation(db, row, event)
            case Checkpoint():
                self._keep_checkpoint(db, row, event)
            case Finished():
                self._register(db, row, event)
            case Told():
                jobs.tell(service, db, row, _key(event), event.message, level=event.level)
            case Failed(code=NoRoom.code):
                self.wait_for_room(db, row)
            case Failed():
                self.fail(db, row, event.code, f"{event.message} {event.hint}".strip(), None)
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
        step = rows.find_event(db, row.id, f"step-{event.step}")
        metrics = {k: v for k, v in (step.data if step else {}).items() if k in _SHOWN}
        db.add(CheckpointRow(id=new_id("ftckpt_"), job_id=row.id, step=event.step, model=name, metrics=metrics, created_at=service.clock()))
        self._add_model(db, row, name, event.path, event.step)
        jobs.tell(service, db, row, _key(event), f"Checkpoint created at step {event.step}: {name}")

    def _register(self, db: Session, row: JobRow, event: Finished) -> None:
        service = self._service
        name = self._name(row)
        self._add_model(db, row, name, event.path, None)
        row.fine_tuned_model, row.trained_tokens = name, event.trained_tokens
        self._note_provider(db, row, event)
        write_card(service, db, row, event, self._runs / row.id)
        self._keep_checkpoint(db, row, Checkpoint(step=event.step, path=event.path))  # the program makes none after the last epoch
        row.result_files = results.keep(service, db, owner(row), row.id)
        jobs.tell(service, db, row, "model", f"New fine-tuned model created: {name}")
        jobs.end(service, db, row, JobStatus.SUCCEEDED, "The job has successfully completed")

    def _note_provider(self, db: Session, row: JobRow, event: Finished) -> None:
        """Of a model that a provider keeps: its name there, and its tokens, which no provider tells step by step."""
        kept = read_remote(self._runs / row.id / event.path)
        if kept is None:
            return
        if (usage := job_usage.usage_of(db, row.id)) is not None:
            usage.tokens = event.trained_tokens
        jobs.tell(self._service, db, row, "kept", f"{kept.region} keeps the model by the name {kept.model}, of its job {kept.job}")

    def _add_model(self, db: Session, row: JobRow, name: str, path: str, step: int | None) -> None:
        folder = (self._runs / row.id / path).relative_to(self._service.settings.data_dir)
        db.add(
            ModelRow(
                name=name, project_id=row.project_id, job_id=row.id, base=row.model, folder=str(folder), step=step,
                created_at=self._service.clock(),
            )
        )  # fmt: skip

    def wait_for_room(self, db: Session, row: JobRow) -> bool:
        """The disk is full: a job that trains goes back into the queue, and on from its last saved step when it comes out of it."""
        if row.status == JobStatus.RUNNING:
            row.status, row.estimated_finish = JobStatus.QUEUED, None
            jobs.tell(self._service, db, row, new_id("room-"), FULL, level="warn")
        else:
            jobs.warn(self._service, db, row, [FULL])
        return True

    def fail(self, db: Session, row: JobRow, code: str, message: str, param: str | None) -> bool:
        """The job's end; `param` names the field of its request that is at fault."""
        row.error = {"code": code, "message": message, "param": param}
        row.trained_tokens = jobs.trained_tokens(db, row) or None
        jobs.end(self._service, db, row, JobStatus.FAILED, f"The job failed: {message}", level="error")
        return True

    def _name(self, row: JobRow) -> str:
        return f"ft:{row.model}:{self._service.settings.organization}:{row.suffix or ''}:{row.id.removeprefix('ftjob-')[:8]}"


def owner(row: JobRow) -> Caller:
    """The background work acts for the job's project."""
    return Caller(ProjectId(row.project_id), KeyId("service"), Scope.WRITE, row.id)


_SHOWN = frozenset({
    "step", "train_loss", "train_mean_token_accuracy", "valid_loss", "valid_mean_token_accuracy", "full_valid_loss",
    "full_valid_mean_token_accuracy",
})  # fmt: skip


def _key(event: TrainEvent) -> str:
    if isinstance(event, Told):
        return f"told-{hashlib.sha256(event.id.encode()).hexdigest()[:32]}"
    step = getattr(event, "step", None)
    return f"run-{event.kind}" if step is None else f"{event.kind}-{step}"


def _metrics(event: Step) -> dict[str, object]:
    return {
        "step": event.step, "total_steps": event.total_steps, "train_loss": event.train_loss,
        "train_mean_token_accuracy": event.train_token_accuracy, "trained_tokens": event.trained_tokens,
        "learning_rate": event.learning_rate, "grad_norm": event.grad_norm,
    }  # fmt: skip

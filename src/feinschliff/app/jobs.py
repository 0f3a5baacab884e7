"""Fine-tuning jobs: created, listed, told about, paused, resumed, cancelled. `app.training` carries them out."""
import hashlib
import json
import logging
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from feinschliff.app import admission, files, lineage
from feinschliff.app.integration_check import check_integrations
from feinschliff.app.residency import check_marks, marks_of
from feinschliff.app.service import Service, new_id
from feinschliff.core.finetune import NewJob
from feinschliff.core.service import Caller, FileStatus, JobStatus
from feinschliff.core.service_errors import Conflict, NotFound, RateLimited, RequestError
from feinschliff.store import audit, integrations, jobs
from feinschliff.store.database import Session
from feinschliff.store.paging import Cursor, Page
from feinschliff.store.tables import CheckpointRow, EventRow, FileRow, JobRow, JobUsageRow, RepeatRow

log = logging.getLogger("feinschliff.jobs")
BUSY_RETRY_S = 60


def create_job(service: Service, caller: Caller, new: NewJob, idempotency_key: str | None) -> JobRow:
    """Write the job down; it is carried out in the background. The same `idempotency_key` and request again: the same job.

    Raises ModelUnavailable, NotFound for a file, RequestError for one that is no training file, Conflict, RateLimited; and
    NotOffered, DoesNotFit, OverBudget where the job could not be carried out.
    """
    check_integrations(service, new.integrations)
    model = admission.chosen(service, new, lineage.base_of(service, caller.project, new))
    digest = hashlib.sha256(new.model_dump_json().encode()).hexdigest()
    with service.database.write() as db:
        if idempotency_key is not None and (again := _made_before(db, caller, idempotency_key, digest)) is not None:
            return again
        file = _training_file(service, db, caller, new.training_file, "training_file")
        held = [] if new.validation_file is None else [_training_file(service, db, caller, new.validation_file, "validation_file")]
        most = service.settings.limits.waiting_jobs
        if jobs.count_open(db, caller.project) >= most:
            raise RateLimited(f"The project has {most} unfinished jobs.", hint="Wait for some, or cancel some.", retry_after_s=BUSY_RETRY_S)
        marks = marks_of(db, caller.project, new, [file, *held])
        check_marks(marks, *admission.place_of(service, new))
        admitted = admission.at_creation(service, db, caller.project, new, model, file)
        settled = new if new.region is None else new.model_copy(update={"region": admitted.region})  # a location may name another one tomorrow
        now = service.clock()
        row = JobRow(
            id=new_id("ftjob-"), project_id=caller.project, status=JobStatus.VALIDATING, model=model,
            training_file=new.training_file, validation_file=new.validation_file, stays_in=marks or None,
            seed=secrets.randbelow(2**31) if new.seed is None else new.seed, suffix=new.suffix, request=settled.model_dump(mode="json"),
            meta=new.metadata, hyperparameters=new.hyperparameters.model_dump(), result_files=[], created_at=now,
            traceparent=service.traces.here(),
        )  # fmt: skip
        db.add(row)
        db.flush()  # its events refer to it
        integrations.add(db, row.id, len(new.integrations))
        tell(service, db, row, "created", f"Created fine-tuning job: {row.id}")
        warn(service, db, row, admitted.warnings)
        db.add(JobUsageRow(job_id=row.id, region=admitted.region, expected_tokens=admitted.tokens, expected_seconds=admitted.seconds))
        tell(service, db, row, "validating", f"Validating training file: {row.training_file}")
        if idempotency_key is not None:
            db.add(RepeatRow(project_id=caller.project, key=idempotency_key, request_sha256=digest, made=row.id, created_at=now))
        audit.record(db, caller, "job.create", row.id, now)
    service.work.ring()
    return row


def get_job(service: Service, caller: Caller, job_id: str) -> JobRow:
    """Raises NotFound."""
    with service.database.read() as db:
        return _existing(db, caller, job_id)


def list_jobs(service: Service, caller: Caller, cursor: Cursor, metadata: Mapping[str, str]) -> Page[JobRow]:
    with service.database.read() as db:
        return jobs.list_jobs(db, caller.project, cursor, metadata)


def job_events(service: Service, caller: Caller, job_id: str, cursor: Cursor) -> Page[EventRow]:
    with service.database.read() as db:
        return jobs.list_events(db, _existing(db, caller, job_id).id, cursor)


def job_checkpoints(service: Service, caller: Caller, job_id: str, cursor: Cursor) -> Page[CheckpointRow]:
    with service.database.read() as db:
        return jobs.list_checkpoints(db, _existing(db, caller, job_id).id, cursor)


def cancel_job(service: Service, caller: Caller, job_id: str) -> JobRow:
    """Ended at once; what was trained so far is counted. Raises NotFound, Conflict where it has ended already."""
    with _changing(service, caller, job_id, "cancel") as (db, row):
        _check_open(row)
        row.trained_tokens = trained_tokens(db, row)
        end(service, db, row, JobStatus.CANCELLED, "The job has been cancelled")
    return row


def pause_job(service: Service, caller: Caller, job_id: str) -> JobRow:
    """Training stops, and goes on from its last saved step when resumed. Raises NotFound, Conflict."""
    with _changing(service, caller, job_id, "pause") as (db, row):
        _check_open(row)
        if row.status != JobStatus.PAUSED:
            row.status, row.estimated_finish = JobStatus.PAUSED, None
            tell(service, db, row, new_id("paused-"), "The job has been paused")
    return row


def resume_job(service: Service, caller: Caller, job_id: str) -> JobRow:
    """Raises NotFound, Conflict where it is not paused."""
    with _changing(service, caller, job_id, "resume") as (db, row):
        if row.status != JobStatus.PAUSED:
            raise Conflict(f"The job {job_id} is not paused: it is {row.status}.", param="fine_tuning_job_id")
        row.status = JobStatus.QUEUED if row.queued_at is not None else JobStatus.VALIDATING
        tell(service, db, row, new_id("resumed-"), "The job has been resumed")
    return row


def delete_job(service: Service, caller: Caller, job_id: str) -> None:
    """It is no longer shown; its models, files and audit records stay. Raises NotFound, Conflict where it has not ended."""
    with _changing(service, caller, job_id, "delete") as (db, row):
        if not JobStatus(row.status).ended:
            raise Conflict(f"The job {row.id} has not ended: it is {row.status}.", param="fine_tuning_job_id", hint="Cancel it first.")
        row.deleted_at = service.clock()
        jobs.forget_repeats(db, row.id)


def tell(
    service: Service, db: Session, row: JobRow, key: str, message: str, *,
    level: str = "info", data: Mapping[str, object] | None = None,
) -> None:
    """Add an event; with `data` it is one of metrics. `key` names what is told, once per job."""
    if data is None:  # messages stay out of the log: findings in files quote what is in them
        log.info("job", extra={"fields": {"job": row.id, "project": row.project_id, "change": key, "status": str(row.status)}})
    db.add(
        EventRow(
            id=new_id("ftevent-"), job_id=row.id, key=key, created_at=service.clock(), level=level, message=message,
            type="message" if data is None else "metrics", data=dict(data or {}),
        )
    )  # fmt: skip


def warn(service: Service, db: Session, row: JobRow, warnings: Collection[str]) -> None:
    """Each is told once."""
    keys = {f"notice-{hashlib.sha256(w.encode()).hexdigest()[:16]}": w for w in warnings}
    told = jobs.told(db, row.id, keys)
    for key, warning in keys.items():
        if key not in told:
            tell(service, db, row, key, warning, level="warn")


def end(service: Service, db: Session, row: JobRow, status: JobStatus, message: str, *, level: str = "info") -> None:
    """The job's last state and event."""
    row.status, row.finished_at, row.estimated_finish = status, service.clock(), None
    tell(service, db, row, "ended", message, level=level)
    _trace(service, row)


def _trace(service: Service, row: JobRow) -> None:
    """Its life as spans of the request that made it: checked, waited, trained. Pauses are within."""
    if row.traceparent is None or row.finished_at is None:
        return
    said = {"feinschliff.job": row.id, "feinschliff.project": row.project_id, "feinschliff.model": row.model, "feinschliff.status": str(row.status)}
    job = service.traces.tell("job", row.created_at, row.finished_at, said, row.traceparent)
    times = (row.created_at, row.queued_at, row.started_at, row.finished_at)
    for name, began, ended in zip(("check files", "wait", "train"), times, times[1:], strict=False):
        if began is not None:
            service.traces.tell(name, began, ended or row.finished_at, {"feinschliff.job": row.id}, job)


def trained_tokens(db: Session, row: JobRow) -> int:
    """Of the steps so far."""
    db.flush()
    return sum(int(e.data.get("trained_tokens", 0)) for e in jobs.metrics_of(db, row.id))


@contextmanager
def _changing(service: Service, caller: Caller, job_id: str, action: str) -> Iterator[tuple[Session, JobRow]]:
    """One transaction on a job, written to the audit log; the background work is woken after it. Raises NotFound."""
    with service.database.write() as db:
        row = _existing(db, caller, job_id)
        yield db, row
        audit.record(db, caller, f"job.{action}", row.id, service.clock())
    service.work.ring()


def _existing(db: Session, caller: Caller, job_id: str) -> JobRow:
    row = jobs.find_job(db, caller.project, job_id)
    if row is None:
        raise NotFound(f"Could not find fine tune: {job_id}", param="fine_tuning_job_id", code="fine_tune_not_found")
    return row


def _check_open(row: JobRow) -> None:
    if JobStatus(row.status).ended:
        raise Conflict(f"The job {row.id} has ended already: it is {row.status}.", param="fine_tuning_job_id")


def _training_file(service: Service, db: Session, caller: Caller, file_id: str, param: str) -> FileRow:
    row = files.existing(service, db, caller, file_id, param=param)
    if row.purpose != "fine-tune":
        raise RequestError(f"The file {file_id} has the purpose {row.purpose!r}.", param=param, hint="Upload it with purpose='fine-tune'.")
    if row.status == FileStatus.ERROR:
        raise RequestError(f"The file {file_id} cannot be trained on. {row.status_details}", param=param, code="invalid_training_file")
    return row


def _made_before(db: Session, caller: Caller, key: str, digest: str) -> JobRow | None:
    before = jobs.find_repeat(db, caller.project, key)
    if before is None:
        return None
    if before.request_sha256 != digest:
        raise Conflict("This Idempotency-Key came with another request before.", hint=json.dumps({"made": before.made}))
    return jobs.find_job(db, caller.project, before.made)

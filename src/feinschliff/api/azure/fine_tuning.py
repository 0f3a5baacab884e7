"""/openai/fine_tuning/jobs: Azure's words for the same jobs."""
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from feinschliff.api.access import Reader, ServiceOf, Writer
from feinschliff.api.azure.dated import VERSIONED, made
from feinschliff.api.openai import fine_tuning
from feinschliff.api.openai.fine_tuning import CheckpointOut, EventOut, JobIn, JobOut
from feinschliff.api.wire import After, Listing, ListingWithEnds, cursor
from feinschliff.app import jobs as use
from feinschliff.app.files import check_processed
from feinschliff.app.service import Service
from feinschliff.core.service import JobStatus
from feinschliff.store.tables import JobRow

router = APIRouter(prefix="/openai/fine_tuning/jobs", tags=["azure"], dependencies=[VERSIONED])
STATUS = {JobStatus.VALIDATING: "created", JobStatus.QUEUED: "pending"}  # the other words are the same


@router.post("", status_code=201)
def create_job(
    body: JobIn, request: Request, response: Response, service: ServiceOf, caller: Writer,
    idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
) -> JobOut:
    """Train a model. Files must have been checked before: Azure accepts no job that waits for them."""
    new = body.job()
    named = {"training_file": new.training_file, "validation_file": new.validation_file}
    check_processed(service, caller, {param: file_id for param, file_id in named.items() if file_id is not None})
    return made(_shown(service, use.create_job(service, caller, new, idempotency_key)), request, response)


@router.get("")
def list_jobs(request: Request, service: ServiceOf, caller: Reader, after: After = None, limit: int = 20) -> Listing[JobOut]:
    at = cursor(limit, after, "desc", most=fine_tuning.MOST)
    page = use.list_jobs(service, caller, at, fine_tuning.wanted_metadata(request))
    return Listing(data=[_shown(service, row) for row in page.rows], has_more=page.has_more)


@router.get("/{job_id}")
def retrieve_job(job_id: str, service: ServiceOf, caller: Reader) -> JobOut:
    return _shown(service, use.get_job(service, caller, job_id))


@router.delete("/{job_id}", status_code=204)
def delete_job(job_id: str, service: ServiceOf, caller: Writer) -> None:
    """One that has ended; its models stay."""
    use.delete_job(service, caller, job_id)


@router.post("/{job_id}/cancel")
def cancel_job(job_id: str, service: ServiceOf, caller: Writer) -> JobOut:
    return _shown(service, use.cancel_job(service, caller, job_id))


@router.post("/{job_id}/pause")
def pause_job(job_id: str, service: ServiceOf, caller: Writer) -> JobOut:
    return _shown(service, use.pause_job(service, caller, job_id))


@router.post("/{job_id}/resume")
def resume_job(job_id: str, service: ServiceOf, caller: Writer) -> JobOut:
    return _shown(service, use.resume_job(service, caller, job_id))


@router.get("/{job_id}/events")
def list_events(job_id: str, service: ServiceOf, caller: Reader, after: After = None, limit: int = 20) -> Listing[EventOut]:
    page = fine_tuning.list_events(job_id, service, caller, after, limit)
    data = [event.model_copy(update={"level": "warning"}) if event.level == "warn" else event for event in page.data]
    return page.model_copy(update={"data": data})


@router.get("/{job_id}/checkpoints")
def list_checkpoints(
    job_id: str, service: ServiceOf, caller: Reader, after: After = None, limit: int = 10
) -> ListingWithEnds[CheckpointOut]:
    return fine_tuning.list_checkpoints(job_id, service, caller, after, limit)


def _shown(service: Service, row: JobRow) -> JobOut:
    """Its status in Azure's words, and the results file in Azure's form."""
    status = JobStatus(row.status)
    shown = JobOut.of(row, service.settings.organization)
    return shown.model_copy(update={"status": STATUS.get(status, status), "result_files": row.result_files[-1:]})

"""/v1/fine_tuning/jobs/{id}/queue, which the hosted services lack."""
from fastapi import APIRouter

from feinschliff.api.access import Reader, ServiceOf
from feinschliff.app import job_queue as use

router = APIRouter(prefix="/fine_tuning/jobs", tags=["fine-tuning"])


@router.get("/{job_id}/queue")
def retrieve_queue(job_id: str, service: ServiceOf, caller: Reader) -> use.QueuePlace:
    """The job's place among those that wait in its region, and when it is expected to begin."""
    return use.job_queue(service, caller, job_id)

"""/v1/fine_tuning/jobs/{id}/cost, which the hosted services lack."""
from fastapi import APIRouter

from feinschliff.api.access import Reader, ServiceOf
from feinschliff.app import job_cost as use

router = APIRouter(prefix="/fine_tuning/jobs", tags=["fine-tuning"])


@router.get("/{job_id}/cost")
def retrieve_cost(job_id: str, service: ServiceOf, caller: Reader) -> use.JobCost:
    """What the job has cost, what it is expected to, and what its models have cost since."""
    return use.job_cost(service, caller, job_id)

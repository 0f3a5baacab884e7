"""When does a waiting job begin? Its place among those of its region, and what those before it are expected to take."""
import heapq
from collections.abc import Sequence
from typing import Literal

from feinschliff.app.jobs import get_job
from feinschliff.app.service import Service
from feinschliff.catalog.models import HERE
from feinschliff.core.chat import Wire
from feinschliff.core.service import Caller, JobStatus
from feinschliff.store import job_usage, jobs
from feinschliff.store.tables import JobRow, JobUsageRow

WAITING = (JobStatus.VALIDATING, JobStatus.QUEUED)
Queued = tuple[JobRow, JobUsageRow | None]


class QueuePlace(Wire):
    """`position` is 1 for the job that begins next, and null for one that does not wait. Times are Unix seconds, null where they
    cannot be told: of a job that waits behind one whose examples have not been counted yet, nobody knows the start."""

    object: Literal["fine_tuning.job.queue"] = "fine_tuning.job.queue"
    job_id: str
    status: JobStatus
    region: str
    concurrency: int
    running: int
    waiting: int
    position: int | None
    estimated_start: int | None
    estimated_finish: int | None


def concurrency(service: Service, region: str = HERE) -> int:
    """How many jobs are trained at once there."""
    known = service.market.regions.regions
    most = known[region].concurrency if region in known else 1
    return max(service.settings.limits.running_jobs, most) if region == HERE else most


def job_queue(service: Service, caller: Caller, job_id: str) -> QueuePlace:
    """Of all projects' jobs, as they share the region. Raises NotFound."""
    job = get_job(service, caller, job_id)
    with service.database.read() as db:
        everyone = [(row, job_usage.usage_of(db, row.id)) for row in jobs.jobs_in(db, (*WAITING, JobStatus.RUNNING))]
    region = next((_region(usage) for row, usage in everyone if row.id == job.id), HERE)
    there = [(row, usage) for row, usage in everyone if _region(usage) == region]
    running = [q for q in there if q[0].status == JobStatus.RUNNING]
    waiting = [q for q in there if q[0].status in WAITING]
    place = next((n for n, (row, _) in enumerate(waiting) if row.id == job.id), None)
    start = job.started_at if place is None else expected_start(service.clock(), concurrency(service, region), running, waiting[:place])
    takes = None if place is None else _seconds(waiting[place][1])
    return QueuePlace(
        job_id=job.id, status=JobStatus(job.status), region=region, concurrency=concurrency(service, region), running=len(running),
        waiting=len(waiting), position=None if place is None else place + 1, estimated_start=start,
        estimated_finish=start + int(takes) if start is not None and takes is not None else job.estimated_finish,
    )  # fmt: skip


def expected_start(now: int, places: int, running: Sequence[Queued], before: Sequence[Queued]) -> int | None:
    """When a place is free for who comes after `before`; a job that is overdue is taken to end now."""
    free = [now] * max(0, places - len(running))
    for row, _ in running:
        if row.estimated_finish is None:
            return None
        free.append(max(now, row.estimated_finish))
    heapq.heapify(free)
    for _, usage in before:
        takes = _seconds(usage)
        if takes is None:
            return None
        heapq.heapreplace(free, free[0] + int(takes))
    return free[0]


def _seconds(usage: JobUsageRow | None) -> float | None:
    return usage.expected_seconds if usage is not None and usage.expected_seconds > 0 else None


def _region(usage: JobUsageRow | None) -> str:
    return HERE if usage is None else usage.region

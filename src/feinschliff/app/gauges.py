"""The service's state in numbers, for whoever watches over it. Of models only the base models' names are told, of projects nothing."""
import shutil
from collections import Counter
from dataclasses import dataclass

from feinschliff.app.job_queue import concurrency
from feinschliff.app.service import Service
from feinschliff.catalog.models import HERE
from feinschliff.core.service import JobStatus
from feinschliff.store import files, job_usage, model_usage


@dataclass(frozen=True, slots=True)
class Gauges:
    """`jobs` by region and state, `tokens` by base model and kind (prompt, cached, completion), `engines`: requests under way and
    places, by base model; the rest in bytes."""

    jobs: dict[tuple[str, JobStatus], int]
    concurrency: dict[str, int]
    tokens: dict[tuple[str, str], int]
    engines: dict[str, tuple[int, int]]
    stored_bytes: int
    disk_free_bytes: int
    disk_bytes: int


def gauges(service: Service) -> Gauges:
    tokens: Counter[tuple[str, str]] = Counter()
    with service.database.read() as db:
        jobs = job_usage.open_jobs(db, HERE)
        stored = files.stored_bytes(db)
        for model, *counted in model_usage.by_model(db):
            for kind, n in zip(("prompt", "cached", "completion"), counted, strict=True):
                tokens[_base(model), kind] += n
    disk = shutil.disk_usage(service.settings.data_dir)
    regions = {HERE} | {region for region, _ in jobs}
    return Gauges(jobs, {r: concurrency(service, r) for r in regions}, dict(tokens), service.live.load, stored, disk.free, disk.total)


def _base(model: str) -> str:
    """A tuned model's name is its project's; it begins with ft:BASE:."""
    return model.split(":")[1] if model.startswith("ft:") else model

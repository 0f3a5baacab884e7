"""May a job start? Asked twice: when it is created, of what is known by then, and when its tokens have been counted.

What cannot be in any case is refused at creation. The rest fails the job before its program starts.
"""
from dataclasses import dataclass
from datetime import UTC, datetime

from feinschliff.app.residency import check_marks
from feinschliff.app.service import Service, today
from feinschliff.catalog.billing import Budget, Spent, check_budget
from feinschliff.catalog.fit import Fit, Hardware, fit
from feinschliff.catalog.machine import this_machine
from feinschliff.catalog.models import HERE
from feinschliff.catalog.offers import check_fit, check_offered, notices
from feinschliff.catalog.region_views import hardware_of
from feinschliff.catalog.regions import Machine, Ray
from feinschliff.catalog.workload import Counted, FileSizes, at_least, work_of
from feinschliff.core.errors import ModelUnavailable, NotOffered
from feinschliff.core.finetune import NewJob
from feinschliff.core.jobs import Lora
from feinschliff.core.service import JobStatus, ModelName, ProjectId
from feinschliff.store import job_usage, keys
from feinschliff.store.database import Session
from feinschliff.store.job_usage import Taken
from feinschliff.store.tables import FileRow, JobRow


@dataclass(frozen=True, slots=True)
class Admission:
    """A job that may start. `region` is where; `fit` says how, `tokens` are of all examples over all epochs."""

    region: str
    fit: Fit
    tokens: int
    warnings: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return self.fit.seconds or 0.0


def chosen(service: Service, new: NewJob) -> ModelName:
    """The base model that the job names. Raises ModelUnavailable, or NotOffered with the regions that have it."""
    region = _region(service, new)
    try:
        return service.offered.find(new.model)
    except ModelUnavailable:
        try:
            known = service.market.models.find(new.model)
        except ModelUnavailable:
            pass
        else:
            check_offered(known, region, service.market.regions, today(service))
        raise


def at_creation(service: Service, db: Session, project: ProjectId, new: NewJob, model: ModelName, file: FileRow) -> Admission:
    """By the file's characters, if it has been checked already. Raises NotOffered, DoesNotFit, OverBudget."""
    counted = None if file.sizes is None else at_least(FileSizes.model_validate(file.sizes))
    others = list(job_usage.taken_since(db, _month(service)))
    return _admit(service, db, project, new, model, counted, others)


def at_start(service: Service, db: Session, row: JobRow, counted: Counted) -> Admission:
    """By the model's own tokens. Of jobs that have not started either, only the earlier ones count. Raises as `at_creation`."""
    new = NewJob.model_validate(row.request)
    check_marks(row.stays_in or {}, *place_of(service, new))  # its region may have become another since
    others = list(job_usage.taken_since(db, _month(service), beside=row))
    return _admit(service, db, ProjectId(row.project_id), new, ModelName(row.model), counted, others)


def _admit(
    service: Service, db: Session, project: ProjectId, new: NewJob, name: ModelName, counted: Counted | None, others: list[Taken]
) -> Admission:
    market, day = service.market, today(service)
    region, model = _region(service, new), service.offered.described(name)
    if name not in service.offered.folders:
        check_offered(model, region, market.regions, day)
    work = work_of(counted, new.hyperparameters)
    found = fit(model, Lora(), "auto", work, _hardware(service, region), market.models)
    check_fit(found, model, region)
    tokens = work.epochs * work.per_epoch
    asked = Spent(training_tokens=tokens, money=_money(service, found.seconds or 0.0), jobs=1)
    check_budget(asked, _budgets(service, db, project, region, others), _currency(service), at_least=counted is None or not counted.exact)
    said = [*notices(model, market.regions.regions[region], day), *_tight(found, model.id)]
    return Admission(region, found, tokens, tuple(said))


def _region(service: Service, new: NewJob) -> str:
    return place_of(service, new)[0]


def place_of(service: Service, new: NewJob) -> tuple[str, Machine | Ray]:
    """Where the job is to be trained. Raises RegionNotConfigured, NotOffered."""
    market = service.market
    name, region = market.regions.find(new.region or HERE, market.models)
    if not isinstance(region, Machine | Ray):
        raise NotOffered(
            f"The service trains on its own machine and on Ray clusters; {name} is of the kind '{region.kind}'.",
            hint=f"Leave out region, or say '{HERE}'; jobs there are run by feinschliff jobs run.",
        )
    return name, region


def _hardware(service: Service, region: str) -> Hardware:
    """In all. Of a cluster whose file says nothing, this machine's is taken."""
    place = service.market.regions.regions[region]
    return (None if isinstance(place, Machine) else hardware_of(region, place)) or this_machine(whole=True)


def _budgets(service: Service, db: Session, project: ProjectId, region: str, others: list[Taken]) -> list[Budget]:
    market, row = service.market, keys.find_project(db, project)
    named = row.name if row is not None else project
    there = [t for t in others if t.region == region]
    own = [t for t in others if t.project == project]
    return [
        Budget(f"region {region}", market.regions.regions[region].quota, _spent(service, there)),
        Budget(f"project {named}", market.projects.quota(named, project), _spent(service, own)),
    ]


def _spent(service: Service, jobs: list[Taken]) -> Spent:
    """What has ended counts as it was, failed jobs as nothing; what has not counts as expected."""
    tokens, seconds, n = 0, 0.0, 0
    for job in jobs:
        match job.status:
            case JobStatus.FAILED:
                continue
            case JobStatus.SUCCEEDED | JobStatus.CANCELLED:
                tokens, seconds, n = tokens + job.tokens, seconds + job.seconds, n + (job.seconds > 0)
            case _:
                tokens, seconds, n = tokens + max(job.tokens, job.expected_tokens), seconds + max(job.seconds, job.expected_seconds), n + 1
    return Spent(training_tokens=tokens, money=_money(service, seconds), jobs=n)


def _money(service: Service, seconds: float) -> float:
    return service.market.prices.machine_hour * seconds / 3600


def _currency(service: Service) -> str:
    machine = service.market.prices.machine
    return machine.currency if machine else "USD"


def _tight(found: Fit, model: str) -> list[str]:
    match found.verdict:
        case "fits_recomputed":
            return [f"{model} fits only with its layers recomputed, a third slower: {found.why}."]
        case "unknown":
            return [f"Whether {model} fits is not known: {found.why}."]
        case _:
            return []


def _month(service: Service) -> int:
    """Its first second, UTC."""
    return int(datetime.fromtimestamp(service.clock(), UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp())

"""May a job start? Asked twice: when it is created, of what is known by then, and when its tokens have been counted.

What cannot be in any case is refused at creation. The rest fails the job before its program starts.
"""
from dataclasses import dataclass

from feinschliff.app.job_budgets import budgets, month, training_money
from feinschliff.app.remote_admission import RemotePlace, hosted_name, model_there
from feinschliff.app.residency import check_marks
from feinschliff.app.service import Service, today
from feinschliff.catalog.billing import Spent, check_budget
from feinschliff.catalog.fit import Fit, Hardware, fit
from feinschliff.catalog.machine import this_machine
from feinschliff.catalog.models import HERE
from feinschliff.catalog.offers import check_fit, check_offered, notices
from feinschliff.catalog.region_views import hardware_of
from feinschliff.catalog.regions import Azure, Machine, OpenAi, Region
from feinschliff.catalog.workload import Counted, FileSizes, at_least, work_of
from feinschliff.core.errors import ModelUnavailable, NotOffered
from feinschliff.core.finetune import NewJob
from feinschliff.core.jobs import Lora
from feinschliff.core.service import ModelName, ProjectId
from feinschliff.providers.remote.standing import check_ready
from feinschliff.store import job_usage
from feinschliff.store.database import Session
from feinschliff.store.job_usage import Taken
from feinschliff.store.tables import FileRow, JobRow


@dataclass(frozen=True, slots=True)
class Admission:
    """A job that may start. `region` is where; `tokens` are of all examples over all epochs, `seconds` 0 where nobody knows."""

    region: str
    seconds: float
    tokens: int
    warnings: tuple[str, ...]


def chosen(service: Service, new: NewJob, base: str) -> ModelName:
    """The base model of the job, `base` by the name that the job gives it, or that of the tuned model from which it starts.

    Raises ModelUnavailable, or NotOffered with the regions that have it.
    """
    region, place = place_of(service, new)
    if isinstance(place, Azure | OpenAi):
        return _chosen_there(service, new, base, region, place)
    try:
        return service.offered.find(base)
    except ModelUnavailable:
        try:
            known = service.market.models.find(base)
        except ModelUnavailable:
            pass
        else:
            check_offered(known, region, service.market.regions, today(service))
        raise


def at_creation(service: Service, db: Session, project: ProjectId, new: NewJob, model: ModelName, file: FileRow) -> Admission:
    """By the file's characters, if it has been checked already. Raises NotOffered, DoesNotFit, OverBudget."""
    counted = None if file.sizes is None else at_least(FileSizes.model_validate(file.sizes))
    others = list(job_usage.taken_since(db, month(service)))
    return _admit(service, db, project, new, model, counted, others)


def at_start(service: Service, db: Session, row: JobRow, counted: Counted) -> Admission:
    """By the model's own tokens. Of jobs that have not started either, only the earlier ones count. Raises as `at_creation`."""
    new = NewJob.model_validate(row.request)
    check_marks(row.stays_in or {}, *place_of(service, new))  # its region may have become another since
    others = list(job_usage.taken_since(db, month(service), beside=row))
    return _admit(service, db, ProjectId(row.project_id), new, ModelName(row.model), counted, others)


def _admit(
    service: Service, db: Session, project: ProjectId, new: NewJob, name: ModelName, counted: Counted | None, others: list[Taken]
) -> Admission:
    market, day = service.market, today(service)
    region, place = place_of(service, new)
    work = work_of(counted, new.hyperparameters)
    seconds, said = 0.0, list[str]()
    if isinstance(place, Azure | OpenAi):  # what it computes with is the provider's concern
        model = model_there(market, name, region, day)
    else:
        model = service.offered.described(name)
        if name not in service.offered.folders:
            check_offered(model, region, market.regions, day)
        found = fit(model, Lora(), "auto", work, _hardware(region, place), market.models)
        check_fit(found, model, region)
        seconds, said = found.seconds or 0.0, _tight(found, model.id)
    tokens = work.epochs * work.per_epoch
    cost = training_money(service, region, name, tokens=tokens, seconds=seconds)
    asked = Spent(training_tokens=tokens, money=cost.amount, jobs=1)
    known = budgets(service, db, project, region, others, cost.currency)
    check_budget(asked, known, cost.currency, at_least=counted is None or not counted.exact)
    return Admission(region, seconds, tokens, (*notices(model, place, day), *said))


def place_of(service: Service, new: NewJob) -> tuple[str, Region]:
    """Where the job is to be trained. Raises RegionNotConfigured."""
    return service.market.regions.find(new.region or HERE, service.market.models)


def _chosen_there(service: Service, new: NewJob, base: str, region: str, place: RemotePlace) -> ModelName:
    """As its provider names it. Raises RegionNotConfigured without the region's credential, MissingExtra."""
    if base != new.model:
        raise NotOffered(f"Jobs in {region} start from the provider's own models; {new.model} is one of this service's.", hint=f"Name its base, or leave out region: {HERE}.")
    check_ready(region, place)
    return ModelName(hosted_name(model_there(service.market, base, region, today(service))))


def _hardware(name: str, region: Region) -> Hardware:
    """In all. Of a cluster whose file says nothing, this machine's is taken."""
    return (None if isinstance(region, Machine) else hardware_of(name, region)) or this_machine(whole=True)


def _tight(found: Fit, model: str) -> list[str]:
    match found.verdict:
        case "fits_recomputed":
            return [f"{model} fits only with its layers recomputed, a third slower: {found.why}."]
        case "unknown":
            return [f"Whether {model} fits is not known: {found.why}."]
        case _:
            return []

"""What training costs where it is done, and what has gone of the budgets that a job counts against."""
from dataclasses import dataclass
from datetime import UTC, datetime

from feinschliff.app.remote_admission import RemotePlace, answering_there
from feinschliff.app.service import Service
from feinschliff.catalog.billing import (
    Budget,
    JobRecord,
    Outcome,
    Period,
    Spent,
    hosted_charge,
    machine_charge,
)
from feinschliff.catalog.prices import MachinePrice, Price
from feinschliff.catalog.regions import Azure, OpenAi
from feinschliff.core.errors import FeinschliffError, NoPrice
from feinschliff.core.service import JobStatus, ProjectId
from feinschliff.store import keys
from feinschliff.store.database import Session
from feinschliff.store.job_usage import Taken


@dataclass(frozen=True, slots=True)
class Money:
    amount: float
    currency: str


def training_money(
    service: Service, region: str, model: str, *, tokens: int, seconds: float, outcome: Outcome = "running"
) -> Money:
    """Of a job that took so much: the machine's time, or what a provider asks for. What has no price costs nothing here."""
    place = service.market.regions.regions.get(region)
    there = isinstance(place, Azure | OpenAi)
    running_s = max(seconds, 1.0) if there and tokens else seconds  # no provider tells how long: what trained has run
    record = JobRecord(outcome=outcome, periods=(Period(phase="running", seconds=running_s),), trained_tokens=tokens)
    if not there:
        machine = service.market.prices.machine or MachinePrice()
        return Money(machine_charge(machine, record), machine.currency)
    price = price_there(service, place, model)
    if price is None:
        return Money(0.0, "USD")
    try:
        return Money(hosted_charge(price, record), price.currency)
    except NoPrice:
        return Money(0.0, price.currency)


def price_there(service: Service, place: RemotePlace, model: str) -> Price | None:
    """Of a model that the place's provider has; None where it is not known."""
    try:
        return service.market.prices.of(answering_there(service.market, model, place))
    except FeinschliffError:
        return None


def budgets(service: Service, db: Session, project: ProjectId, region: str, others: list[Taken], currency: str) -> list[Budget]:
    """The region's and the project's. Money in another currency than the job's is not in them."""
    market, row = service.market, keys.find_project(db, project)
    named = row.name if row is not None else project
    there = [t for t in others if t.region == region]
    own = [t for t in others if t.project == project]
    return [
        Budget(f"region {region}", market.regions.regions[region].quota, _spent(service, there, currency)),
        Budget(f"project {named}", market.projects.quota(named, project), _spent(service, own, currency)),
    ]


def month(service: Service) -> int:
    """Its first second, UTC."""
    return int(datetime.fromtimestamp(service.clock(), UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp())


def _spent(service: Service, jobs: list[Taken], currency: str) -> Spent:
    """What has ended counts as it was, failed jobs as nothing; what has not counts as expected."""
    tokens, money, n = 0, 0.0, 0
    for job in jobs:
        match job.status:
            case JobStatus.FAILED:
                continue
            case JobStatus.SUCCEEDED | JobStatus.CANCELLED:
                its_tokens, its_seconds, counts = job.tokens, job.seconds, job.seconds > 0 or job.tokens > 0
            case _:
                its_tokens, its_seconds, counts = max(job.tokens, job.expected_tokens), max(job.seconds, job.expected_seconds), True
        cost = training_money(service, job.region, job.model, tokens=its_tokens, seconds=its_seconds)
        tokens, money, n = tokens + its_tokens, money + (cost.amount if cost.currency == currency else 0.0), n + counts
    return Spent(training_tokens=tokens, money=money, jobs=n)

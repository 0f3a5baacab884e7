"""What a fine-tuning job costs, before, while and after it is trained, and what its models have cost since.

Charged is training alone, by the rules of `catalog.billing`: the time of optimizer steps on this machine, or what the job's provider asks
for. Waiting, checks of the data, pauses and failed jobs are free.
"""
from collections.abc import Sequence
from typing import Literal

from feinschliff.app.job_budgets import price_there, training_money
from feinschliff.app.jobs import get_job
from feinschliff.app.remote_admission import RemotePlace
from feinschliff.app.service import Service
from feinschliff.catalog.billing import Outcome
from feinschliff.catalog.models import HERE
from feinschliff.catalog.prices import Price
from feinschliff.catalog.regions import Azure, OpenAi
from feinschliff.core.chat import Wire
from feinschliff.core.errors import NoPrice
from feinschliff.core.service import Caller, JobStatus, ModelName, ProjectId, Tier
from feinschliff.core.service_errors import NotFound
from feinschliff.store import deployments, job_usage, jobs, model_usage
from feinschliff.store.database import Session
from feinschliff.store.tables import JobRow, JobUsageRow, ModelRow

OUTCOMES: dict[JobStatus, Outcome] = {
    JobStatus.SUCCEEDED: "succeeded", JobStatus.CANCELLED: "cancelled", JobStatus.FAILED: "failed",
}  # fmt: skip


class TrainingCost(Wire):
    """`tokens` are of all examples over the epochs so far, `seconds` of optimizer steps; None: nobody estimated them."""

    tokens: int
    seconds: float
    waited_seconds: float  # all the rest since the job was created, free of charge
    amount: float
    expected_tokens: int | None
    expected_seconds: float | None
    expected_amount: float | None


class HostingCost(Wire):
    """Of the deployments of the job's models that there are now."""

    deployments: int
    hours: float
    amount: float


class InferenceCost(Wire):
    """Of what the job's project has asked its models; `amount` is None where tokens have no price."""

    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    amount: float | None


class JobCost(Wire):
    """Amounts in `currency`. `total` is what has been spent; an estimate is not in it."""

    object: Literal["fine_tuning.job.cost"] = "fine_tuning.job.cost"
    job_id: str
    status: str
    basis: Literal["estimate", "running", "final"]
    region: str
    model: str
    fine_tuned_model: str | None
    currency: str
    training: TrainingCost
    hosting: HostingCost
    inference: InferenceCost
    total: float
    notes: tuple[str, ...]


def job_cost(service: Service, caller: Caller, job_id: str) -> JobCost:
    """Raises NotFound."""
    row = get_job(service, caller, job_id)
    with service.database.read() as db:
        return _cost(service, db, row)


def any_job_cost(service: Service, job_id: str) -> JobCost:
    """For whoever runs the server, whatever project the job belongs to. Raises NotFound."""
    with service.database.read() as db:
        row = jobs.job_of(db, job_id)
        if row is None:
            raise NotFound(f"There is no job {job_id!r}.", hint="Name the service's data folder with --data-dir.")
        return _cost(service, db, row)


def _cost(service: Service, db: Session, row: JobRow) -> JobCost:
    prices, usage = service.market.prices, job_usage.usage_of(db, row.id)
    region = usage.region if usage else HERE
    place = service.market.regions.regions.get(region)
    there = place if isinstance(place, Azure | OpenAi) else None
    own = row.model in service.offered.names() and there is None
    price = prices.of(service.offered.described(ModelName(row.model))) if own else None
    training, currency = _training(service, row, usage, region)
    hosting = _hosting(service, db, jobs.models_of(db, row.id), price)
    inference = _inference(db, row, price)
    notes = _notes(service, row, inference, region, there)
    return JobCost(
        job_id=row.id, status=row.status, basis=_basis(row), region=region, model=row.model,
        fine_tuned_model=row.fine_tuned_model, currency=currency, training=training, hosting=hosting, inference=inference,
        total=training.amount + hosting.amount + (inference.amount or 0.0), notes=notes,
    )  # fmt: skip


def _basis(row: JobRow) -> Literal["estimate", "running", "final"]:
    if JobStatus(row.status).ended:
        return "final"
    return "estimate" if row.started_at is None else "running"


def _training(service: Service, row: JobRow, usage: JobUsageRow | None, region: str) -> tuple[TrainingCost, str]:
    """And its currency."""
    tokens, seconds = (usage.tokens, usage.seconds) if usage else (0, 0.0)
    outcome = OUTCOMES.get(JobStatus(row.status), "running")
    spent = training_money(service, region, row.model, tokens=tokens, seconds=seconds, outcome=outcome)
    since = (row.finished_at or service.clock()) - row.created_at
    open_ = usage if usage and usage.expected_tokens and not JobStatus(row.status).ended else None
    ahead = training_money(service, region, row.model, tokens=open_.expected_tokens, seconds=open_.expected_seconds) if open_ else None
    cost = TrainingCost(
        tokens=tokens, seconds=seconds, waited_seconds=max(0.0, since - seconds), amount=spent.amount,
        expected_tokens=open_.expected_tokens if open_ else None, expected_seconds=open_.expected_seconds if open_ else None,
        expected_amount=ahead.amount if ahead else None,
    )  # fmt: skip
    return cost, spent.currency


def _hosting(service: Service, db: Session, models: Sequence[ModelRow], price: Price | None) -> HostingCost:
    """Azure's developer tier has no price by the hour."""
    found = [d for model in models for d in deployments.deployments_of(db, model) if d.tier == Tier.STANDARD]
    hours = sum(max(0, service.clock() - d.created_at) for d in found) / 3600
    return HostingCost(deployments=len(found), hours=hours, amount=hours * (price.hosting_hour if price else 0.0))


def _inference(db: Session, row: JobRow, price: Price | None) -> InferenceCost:
    names = [*jobs.checkpoint_names(db, row.id), *([row.fine_tuned_model] if row.fine_tuned_model else [])]  # deleted ones, too
    requests, read, cached, written = model_usage.sums(db, ProjectId(row.project_id), names)
    try:
        amount = price.request(read, written, tuned=True) if price else None
    except NoPrice:
        amount = None
    return InferenceCost(requests=requests, input_tokens=read, cached_tokens=cached, output_tokens=written, amount=amount)


def _notes(service: Service, row: JobRow, inference: InferenceCost, region: str, there: RemotePlace | None) -> tuple[str, ...]:
    notes: list[str] = []
    if there is not None:
        notes.append(f"Hosting and answers of the model in {region} are not in it: they do not go through this service.")
        if price_there(service, there, row.model) is None:
            notes.append(f"The price of {row.model} is not known: write it into prices.toml in the settings folder.")
    elif not service.market.prices.machine_hour:
        notes.append("This machine's time has no price: write [machine] into prices.toml in the settings folder.")
    if row.status == JobStatus.FAILED:
        notes.append("A failed job is free.")
    if inference.requests and inference.amount is None:
        notes.append(f'Tokens of {row.model} have no price here: add a [[prices]] entry with provider = "local" to prices.toml.')
    return tuple(notes)

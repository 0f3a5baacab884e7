"""/v1/fine_tuning/jobs."""
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Request
from pydantic import BeforeValidator, ConfigDict, ValidationError

from feinschliff.api.access import Reader, ServiceOf, Writer
from feinschliff.api.wire import After, Body, Listing, ListingWithEnds, Shown, cursor, with_ends
from feinschliff.app import jobs as use
from feinschliff.app.lineage import parent_of
from feinschliff.core.finetune import Integration, NewJob, TuningHyperparameters
from feinschliff.core.service import JobStatus
from feinschliff.core.service_errors import RequestError
from feinschliff.store.tables import CheckpointRow, EventRow, JobRow

router = APIRouter(prefix="/fine_tuning/jobs", tags=["fine-tuning"])
MOST = 1000  # of a page


TrainingType = Annotated[
    Literal["standard", "globalstandard", "developer", "developertier"], BeforeValidator(lambda given: given.lower() if isinstance(given, str) else given)
]


class SupervisedIn(Body):
    hyperparameters: TuningHyperparameters | None = None


class MethodIn(Body):
    """Clients send blocks of other methods along with `type: supervised`; those are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: SupervisedIn | None = None


class JobIn(Body):
    model: str
    training_file: str
    validation_file: str | None = None
    suffix: str | None = None
    seed: int | None = None
    metadata: dict[str, str] | None = None
    hyperparameters: TuningHyperparameters | None = None
    method: MethodIn | None = None
    integrations: tuple[Integration, ...] | None = None
    region: str | None = None  # ours
    trainingType: TrainingType | None = None
    """Azure's; taken, and changes nothing here."""

    def job(self) -> NewJob:
        """Raises RequestError for what is not done here, or not allowed."""
        if self.method is not None and self.method.type != "supervised":
            raise RequestError(
                f"The method {self.method.type!r} is not supported: this system is for supervised fine-tuning.", param="method.type",
                hint="Use method.type 'supervised'.", code="unsupported_method",
            )  # fmt: skip
        supervised = self.method.supervised if self.method else None
        chosen = (supervised and supervised.hyperparameters) or self.hyperparameters or TuningHyperparameters()
        try:
            return NewJob(
                model=self.model, training_file=self.training_file, validation_file=self.validation_file, suffix=self.suffix,
                seed=self.seed, metadata=self.metadata, hyperparameters=chosen, region=self.region,
                integrations=self.integrations or (),
            )  # fmt: skip
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise RequestError(f"{place}: {first['msg']}.", param=place) from None


class HyperparametersOut(Shown):
    batch_size: int | str
    learning_rate_multiplier: float | str
    n_epochs: int | str


class SupervisedOut(Shown):
    hyperparameters: HyperparametersOut


class MethodOut(Shown):
    type: Literal["supervised"] = "supervised"
    supervised: SupervisedOut


class JobErrorOut(Shown):
    code: str
    message: str
    param: str | None


class JobOut(Shown):
    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    error: JobErrorOut | None
    fine_tuned_model: str | None
    finished_at: int | None
    hyperparameters: HyperparametersOut
    model: str
    organization_id: str
    result_files: list[str]
    status: str
    trained_tokens: int | None
    training_file: str
    validation_file: str | None
    seed: int
    estimated_finish: int | None
    integrations: list[dict[str, Any]]
    """As they were asked for."""
    method: MethodOut
    metadata: dict[str, str] | None
    user_provided_suffix: str | None

    @classmethod
    def of(cls, row: JobRow, organization: str) -> "JobOut":
        chosen = HyperparametersOut.model_validate(row.hyperparameters)
        return cls(
            id=row.id, created_at=row.created_at, error=row.error and JobErrorOut.model_validate(row.error),
            fine_tuned_model=row.fine_tuned_model, finished_at=row.finished_at, hyperparameters=chosen, model=parent_of(row) or row.model,
            organization_id=organization, result_files=row.result_files[:1], status=_status(row), trained_tokens=row.trained_tokens,
            training_file=row.training_file, validation_file=row.validation_file, seed=row.seed,
            estimated_finish=row.estimated_finish, integrations=_integrations(row), method=MethodOut(supervised=SupervisedOut(hyperparameters=chosen)),
            metadata=row.meta, user_provided_suffix=row.suffix,
        )  # fmt: skip


class EventOut(Shown):
    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: str
    message: str
    type: str
    data: dict[str, Any]

    @classmethod
    def of(cls, row: EventRow) -> "EventOut":
        return cls(id=row.id, created_at=row.created_at, level=row.level, message=row.message, type=row.type, data=row.data)


class CheckpointOut(Shown):
    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: dict[str, float]
    step_number: int

    @classmethod
    def of(cls, row: CheckpointRow) -> "CheckpointOut":
        return cls(
            id=row.id, created_at=row.created_at, fine_tuned_model_checkpoint=row.model, fine_tuning_job_id=row.job_id,
            metrics=row.metrics, step_number=row.step,
        )  # fmt: skip


@router.post("")
def create_job(
    body: JobIn, service: ServiceOf, caller: Writer, idempotency_key: Annotated[str | None, Header(max_length=255)] = None
) -> JobOut:
    """Train a model. The same Idempotency-Key and request again give the same job."""
    return _shown(service, use.create_job(service, caller, body.job(), idempotency_key))


@router.get("")
def list_jobs(request: Request, service: ServiceOf, caller: Reader, after: After = None, limit: int = 20) -> Listing[JobOut]:
    page = use.list_jobs(service, caller, cursor(limit, after, "desc", most=MOST), wanted_metadata(request))
    return Listing(data=[_shown(service, row) for row in page.rows], has_more=page.has_more)


@router.get("/{job_id}")
def retrieve_job(job_id: str, service: ServiceOf, caller: Reader) -> JobOut:
    return _shown(service, use.get_job(service, caller, job_id))


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
    page = use.job_events(service, caller, job_id, cursor(limit, after, "desc", most=MOST))
    return Listing(data=[EventOut.of(row) for row in page.rows], has_more=page.has_more)


@router.get("/{job_id}/checkpoints")
def list_checkpoints(job_id: str, service: ServiceOf, caller: Reader, after: After = None, limit: int = 10) -> ListingWithEnds[CheckpointOut]:
    page = use.job_checkpoints(service, caller, job_id, cursor(limit, after, "desc", most=MOST))
    return with_ends([CheckpointOut.of(row) for row in page.rows], has_more=page.has_more)


def wanted_metadata(request: Request) -> dict[str, str]:
    """`metadata[key]=value`, any number of times."""
    return {k[9:-1]: v for k, v in request.query_params.items() if k.startswith("metadata[") and k.endswith("]")}


def _integrations(row: JobRow) -> list[dict[str, Any]]:
    return [i.model_dump(mode="json", exclude_none=True) for i in NewJob.model_validate(row.request).integrations]


def _shown(service: ServiceOf, row: JobRow) -> JobOut:
    return JobOut.of(row, service.settings.organization)


def _status(row: JobRow) -> str:
    """OpenAI's enumeration has no word for a paused job: it is not running, and will."""
    return JobStatus.QUEUED if row.status == JobStatus.PAUSED else row.status

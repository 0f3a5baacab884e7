"""Runs of evaluations: created, listed, cancelled, deleted. `app.eval_work` carries them out."""
from feinschliff.app import evals as definitions
from feinschliff.app.deployments import model_of
from feinschliff.app.eval_items import count_checked
from feinschliff.app.eval_tallies import Tallies
from feinschliff.app.service import Service, new_id
from feinschliff.core.chat import Wire
from feinschliff.core.criteria import models_of
from feinschliff.core.errors import ModelUnavailable
from feinschliff.core.eval_runs import Asking, DataSource, ItemReference, Metadata
from feinschliff.core.service import Caller, RunStatus
from feinschliff.core.service_errors import Conflict, NotFound, RateLimited, RequestError
from feinschliff.evals.criteria.templates import bad_names
from feinschliff.store import audit, evals, jobs
from feinschliff.store.database import Session
from feinschliff.store.paging import Cursor, Page
from feinschliff.store.tables import EvalItemRow, EvalRow, EvalRunRow

BUSY_RETRY_S = 60


class NewRun(Wire):
    name: str = ""
    metadata: Metadata | None = None
    data_source: DataSource


def create_run(service: Service, caller: Caller, eval_id: str, new: NewRun) -> EvalRunRow:
    """Write the run down; it is carried out in the background. Raises NotFound for the evaluation, its file, and models that it
    needs; RequestError for items that do not fit; RateLimited."""
    definition = definitions.get_eval(service, caller, eval_id)
    source, limits = new.data_source, service.settings.limits
    criteria = definitions.criteria_of(definition)
    if isinstance(source, Asking):
        _check_asking(source)
        check_model(service, caller, source.model)
    for model in sorted({model for criterion in criteria for model in models_of(criterion)}):
        check_model(service, caller, model)
    n_items = count_checked(service, caller, source.source, definition.definition["item_schema"], limits.eval_items)
    row = EvalRunRow(
        id=new_id("evalrun_"), project_id=caller.project, eval_id=eval_id, name=new.name, status=RunStatus.QUEUED,
        model=source.model if isinstance(source, Asking) else "", meta=new.metadata, n_items=n_items,
        source=source.model_dump(mode="json", by_alias=True, exclude_none=True),
        tallies=Tallies(criteria=((0, 0),) * len(criteria)).model_dump(mode="json"), created_at=service.clock(),
    )  # fmt: skip
    with service.database.write() as db:
        definitions.existing(db, caller, eval_id)  # it may have been deleted meanwhile
        if evals.count_open(db, caller.project) >= limits.waiting_evals:
            raise RateLimited(
                f"The project has {limits.waiting_evals} unfinished runs.", hint="Wait for some, or cancel some.", retry_after_s=BUSY_RETRY_S
            )
        db.add(row)
        audit.record(db, caller, "eval.run.create", row.id, row.created_at)
    service.work.ring()
    return row


def get_run(service: Service, caller: Caller, eval_id: str, run_id: str) -> EvalRunRow:
    """Raises NotFound."""
    with service.database.read() as db:
        return _existing(db, caller, eval_id, run_id)


def with_definition(service: Service, caller: Caller, eval_id: str, run_id: str) -> tuple[EvalRow, EvalRunRow]:
    """Raises NotFound."""
    with service.database.read() as db:
        return definitions.existing(db, caller, eval_id), _existing(db, caller, eval_id, run_id)


def list_runs(service: Service, caller: Caller, eval_id: str, cursor: Cursor, status: RunStatus | None) -> tuple[EvalRow, Page[EvalRunRow]]:
    """Raises NotFound for the evaluation."""
    with service.database.read() as db:
        return definitions.existing(db, caller, eval_id), evals.list_runs(db, eval_id, cursor, status)


def cancel_run(service: Service, caller: Caller, eval_id: str, run_id: str) -> EvalRunRow:
    """What is finished stays. Raises NotFound, and Conflict where it has ended already."""
    with service.database.write() as db:
        row = _existing(db, caller, eval_id, run_id)
        if RunStatus(row.status).ended:
            raise Conflict(f"The run {run_id} has ended already: {row.status}.")
        row.status = RunStatus.CANCELED
        audit.record(db, caller, "eval.run.cancel", run_id, service.clock())
    service.work.ring()
    return row


def delete_run(service: Service, caller: Caller, eval_id: str, run_id: str) -> None:
    """With its output items; a run that goes on ends. Raises NotFound."""
    with service.database.write() as db:
        evals.drop_run(db, _existing(db, caller, eval_id, run_id))
        audit.record(db, caller, "eval.run.delete", run_id, service.clock())
    service.work.ring()


def list_items(service: Service, caller: Caller, eval_id: str, run_id: str, cursor: Cursor, status: str | None) -> Page[EvalItemRow]:
    """Raises NotFound for the run."""
    with service.database.read() as db:
        return evals.list_items(db, _existing(db, caller, eval_id, run_id).id, cursor, status)


def get_item(service: Service, caller: Caller, eval_id: str, run_id: str, item_id: str) -> EvalItemRow:
    """Raises NotFound."""
    with service.database.read() as db:
        row = evals.find_item(db, _existing(db, caller, eval_id, run_id).id, item_id)
    if row is None:
        raise NotFound(f"There is no output item {item_id!r} in this run.", param="output_item_id")
    return row


def check_model(service: Service, caller: Caller, name: str) -> None:
    """That something answers to this name. Raises NotFound."""
    model = model_of(service, caller, name)
    with service.database.read() as db:
        if jobs.find_model(db, caller.project, model) is not None:
            return
    try:
        service.offered.find(model)
    except ModelUnavailable as error:
        hint = f"{error.hint} A deployment of that name lets another model answer: POST /v1/deployments."
        raise NotFound(error.message, hint=hint, param="model", code="model_not_found") from None


def _check_asking(source: Asking) -> None:
    """Raises RequestError for what cannot be asked here."""
    if source.sampling_params.tools:
        raise RequestError("Tools are not supported in evaluations.", param="data_source.sampling_params.tools", hint="Leave them out.")
    match source.input_messages:
        case ItemReference(item_reference=reference):
            bad = bad_names(f"{{{{{reference}}}}}")
        case template:
            bad = [name for say in template.template for name in bad_names(say.content.text)]
    if bad:
        raise RequestError(
            f"{bad[0]!r} stands for nothing.", param="data_source.input_messages", hint="Names begin with item., as {{ item.question }}."
        )


def _existing(db: Session, caller: Caller, eval_id: str, run_id: str) -> EvalRunRow:
    row = evals.find_run(db, caller.project, eval_id, run_id)
    if row is None:
        raise NotFound(f"There is no run {run_id!r} of the evaluation {eval_id!r}.", param="run_id")
    return row

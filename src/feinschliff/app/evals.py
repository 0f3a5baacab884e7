"""Evaluations: what is measured (`data_source_config`) and how it is judged (`testing_criteria`)."""
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import TypeAdapter

from feinschliff.app.eval_items import check_schema
from feinschliff.app.service import Service, new_id
from feinschliff.core.chat import Wire
from feinschliff.core.criteria import Criterion, Multi, PythonCode, TextSimilarity
from feinschliff.core.eval_runs import Kind, Metadata
from feinschliff.core.service import Caller
from feinschliff.core.service_errors import NotFound, RequestError
from feinschliff.evals.criteria.check import check
from feinschliff.store import audit, evals
from feinschliff.store.database import Session
from feinschliff.store.paging import Cursor, Page
from feinschliff.store.tables import EvalRow

CRITERIA: TypeAdapter[tuple[Criterion, ...]] = TypeAdapter(tuple[Criterion, ...])


class NewEval(Wire):
    """`item_schema` is the JSON Schema of one item; `with_sample`: items bring what a model made of them. `chosen_by` is what the hosted
    service picks kept answers by."""

    name: str = ""
    kind: Kind = "custom"
    chosen_by: dict[str, Any] | None = None
    item_schema: dict[str, Any]
    with_sample: bool = False
    testing_criteria: tuple[Criterion, ...]
    metadata: Metadata | None = None


def create_eval(service: Service, caller: Caller, new: NewEval) -> EvalRow:
    """Raises RequestError, BadData for a schema or a grader that cannot work. Models need not be there yet: a run needs them."""
    check_schema(new.item_schema)
    for criterion in new.testing_criteria:
        check_criterion(service, criterion)
    now = service.clock()
    definition = {
        "kind": new.kind, "chosen_by": new.chosen_by, "item_schema": new.item_schema, "with_sample": new.with_sample,
        "testing_criteria": CRITERIA.dump_python(new.testing_criteria, mode="json", exclude_none=True),
    }  # fmt: skip
    row = EvalRow(
        id=new_id("eval_"), project_id=caller.project, name=new.name, definition=definition, meta=new.metadata, created_at=now, updated_at=now
    )
    with service.database.write() as db:
        db.add(row)
        audit.record(db, caller, "eval.create", row.id, now)
    return row


def check_criterion(service: Service, criterion: Criterion) -> None:
    """Raises BadData, RequestError for a grader that this service has not got."""
    check(criterion)
    for each in [criterion, *(criterion.by_name.values() if isinstance(criterion, Multi) else ())]:
        match each:
            case PythonCode() if not service.settings.limits.python_grader_s:
                raise RequestError("Python graders are switched off here.", hint="The operator's --limit python_grader_s= allows them.")
            case TextSimilarity(evaluation_metric="cosine") if not service.offered.embedders():
                raise RequestError(f"The grader {each.name!r} needs an embedding model, and there is none here.", hint="Use rouge_l or gleu.")
            case _:
                pass


def get_eval(service: Service, caller: Caller, eval_id: str) -> EvalRow:
    """Raises NotFound."""
    with service.database.read() as db:
        return existing(db, caller, eval_id)


def list_evals(service: Service, caller: Caller, cursor: Cursor, by: Literal["created_at", "updated_at"]) -> Page[EvalRow]:
    with service.database.read() as db:
        return evals.list_evals(db, caller.project, cursor, by)


def update_eval(service: Service, caller: Caller, eval_id: str, name: str | None, metadata: Mapping[str, str] | None) -> EvalRow:
    """What is None stays as it is. Raises NotFound."""
    with service.database.write() as db:
        row = existing(db, caller, eval_id)
        row.name = row.name if name is None else name
        row.meta = row.meta if metadata is None else dict(metadata)
        row.updated_at = service.clock()
        audit.record(db, caller, "eval.update", eval_id, row.updated_at)
    return row


def delete_eval(service: Service, caller: Caller, eval_id: str) -> None:
    """With its runs, which end. Raises NotFound."""
    with service.database.write() as db:
        evals.drop_eval(db, existing(db, caller, eval_id))
        audit.record(db, caller, "eval.delete", eval_id, service.clock())


def existing(db: Session, caller: Caller, eval_id: str) -> EvalRow:
    row = evals.find_eval(db, caller.project, eval_id)
    if row is None:
        raise NotFound(f"There is no evaluation {eval_id!r}.", param="eval_id", hint="GET /v1/evals lists them.")
    return row


def criteria_of(row: EvalRow) -> Sequence[Criterion]:
    return CRITERIA.validate_python(row.definition["testing_criteria"])

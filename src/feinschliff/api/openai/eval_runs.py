"""/v1/evals/{id}/runs."""
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from feinschliff.api.access import Reader, ServiceOf, Writer
from feinschliff.api.wire import After, Body, ListingWithEnds, Shown, cursor, with_ends
from feinschliff.app import eval_runs as use
from feinschliff.app.eval_tallies import Tallies
from feinschliff.core.eval_runs import DataSource, Metadata
from feinschliff.core.service import RunStatus
from feinschliff.store.tables import EvalItemRow, EvalRow, EvalRunRow

router = APIRouter(prefix="/evals/{eval_id}/runs", tags=["evals"])
NO_ERROR = {"code": "", "message": ""}  # the published schema has no null here


class RunIn(Body):
    name: str | None = Field(None, max_length=512)
    metadata: Metadata | None = None
    data_source: DataSource


class CountsOut(Shown):
    total: int
    errored: int
    failed: int
    passed: int


class ModelUsageOut(Shown):
    model_name: str
    invocation_count: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int


class CriterionOut(Shown):
    testing_criteria: str
    passed: int
    failed: int


class RunOut(Shown):
    id: str
    object: Literal["eval.run"] = "eval.run"
    eval_id: str
    status: RunStatus
    model: str
    name: str
    created_at: int
    report_url: str
    """Of the run itself: the service has no page for it."""
    result_counts: CountsOut
    per_model_usage: list[ModelUsageOut]
    per_testing_criteria_results: list[CriterionOut]
    data_source: dict[str, Any]
    metadata: dict[str, str]
    error: dict[str, str]

    @classmethod
    def of(cls, row: EvalRunRow, definition: EvalRow, request: Request) -> "RunOut":
        sums = Tallies.model_validate(row.tallies)
        names = [criterion["name"] for criterion in definition.definition["testing_criteria"]]
        usage = [
            ModelUsageOut(
                model_name=model, invocation_count=used.calls, prompt_tokens=used.prompt_tokens, completion_tokens=used.completion_tokens,
                total_tokens=used.prompt_tokens + used.completion_tokens, cached_tokens=used.cached_tokens,
            )
            for model, used in sums.usage.items()
        ]  # fmt: skip
        criteria = [CriterionOut(testing_criteria=n, passed=p, failed=f) for n, (p, f) in zip(names, sums.criteria, strict=True)]
        return cls(
            id=row.id, eval_id=row.eval_id, status=RunStatus(row.status), model=row.model, name=row.name, created_at=row.created_at,
            report_url=f"{request.base_url}v1/evals/{row.eval_id}/runs/{row.id}",
            result_counts=CountsOut(total=row.n_items, errored=sums.errored, failed=sums.failed, passed=sums.passed), per_model_usage=usage,
            per_testing_criteria_results=criteria, data_source=row.source, metadata=row.meta or {}, error=row.error or NO_ERROR,
        )  # fmt: skip


class RunDeleted(Shown):
    object: Literal["eval.run.deleted"] = "eval.run.deleted"
    deleted: bool
    run_id: str


class ItemOut(Shown):
    id: str
    object: Literal["eval.run.output_item"] = "eval.run.output_item"
    run_id: str
    eval_id: str
    created_at: int
    status: str
    datasource_item_id: int
    datasource_item: dict[str, Any]
    results: list[dict[str, Any]]
    sample: dict[str, Any]

    @classmethod
    def of(cls, row: EvalItemRow, eval_id: str) -> "ItemOut":
        return cls(
            id=row.id, run_id=row.run_id, eval_id=eval_id, created_at=row.created_at, status=row.status, datasource_item_id=row.number, **row.content
        )


@router.post("", status_code=201)
def create_run(eval_id: str, body: RunIn, request: Request, service: ServiceOf, caller: Writer) -> RunOut:
    """Judge items that are given, or a model's answers to them. It goes on in the background, restarts included."""
    new = use.NewRun(name=body.name or "", metadata=body.metadata, data_source=body.data_source)
    row = use.create_run(service, caller, eval_id, new)
    return RunOut.of(row, use.with_definition(service, caller, eval_id, row.id)[0], request)


@router.get("")
def list_runs(
    eval_id: str, request: Request, service: ServiceOf, caller: Reader, after: After = None, limit: int = 20, order: str = "asc",
    status: RunStatus | None = None,
) -> ListingWithEnds[RunOut]:  # fmt: skip
    definition, page = use.list_runs(service, caller, eval_id, cursor(limit, after, order), status)
    return with_ends([RunOut.of(row, definition, request) for row in page.rows], has_more=page.has_more, nobody="")


@router.get("/{run_id}")
def retrieve_run(eval_id: str, run_id: str, request: Request, service: ServiceOf, caller: Reader) -> RunOut:
    return _shown(eval_id, run_id, request, service, caller)


@router.post("/{run_id}/cancel")  # as the official clients ask; the published description has the other
@router.post("/{run_id}")
def cancel_run(eval_id: str, run_id: str, request: Request, service: ServiceOf, caller: Writer) -> RunOut:
    """What is finished stays."""
    use.cancel_run(service, caller, eval_id, run_id)
    return _shown(eval_id, run_id, request, service, caller)


@router.delete("/{run_id}")
def delete_run(eval_id: str, run_id: str, service: ServiceOf, caller: Writer) -> RunDeleted:
    use.delete_run(service, caller, eval_id, run_id)
    return RunDeleted(deleted=True, run_id=run_id)


@router.get("/{run_id}/output_items")
def list_items(
    eval_id: str, run_id: str, service: ServiceOf, caller: Reader, after: After = None, limit: int = 20, order: str = "asc",
    status: Literal["pass", "fail", "error"] | None = None,
) -> ListingWithEnds[ItemOut]:  # fmt: skip
    page = use.list_items(service, caller, eval_id, run_id, cursor(limit, after, order), status)
    return with_ends([ItemOut.of(row, eval_id) for row in page.rows], has_more=page.has_more, nobody="")


@router.get("/{run_id}/output_items/{output_item_id}")
def retrieve_item(eval_id: str, run_id: str, output_item_id: str, service: ServiceOf, caller: Reader) -> ItemOut:
    return ItemOut.of(use.get_item(service, caller, eval_id, run_id, output_item_id), eval_id)


def _shown(eval_id: str, run_id: str, request: Request, service: ServiceOf, caller: Reader) -> RunOut:
    definition, row = use.with_definition(service, caller, eval_id, run_id)
    return RunOut.of(row, definition, request)

"""/v1/evals."""
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field

from feinschliff.api.access import Reader, ServiceOf, Writer
from feinschliff.api.wire import After, Body, ListingWithEnds, Shown, cursor, with_ends
from feinschliff.app import evals as use
from feinschliff.core.criteria import Criterion
from feinschliff.core.eval_runs import Kind, Metadata
from feinschliff.core.service_errors import RequestError
from feinschliff.store.tables import EvalRow

router = APIRouter(prefix="/evals", tags=["evals"])


class DataSourceConfig(Body):
    """`schema` is what the hosted service shows of an evaluation: taken too, so that one can be moved here as it was read there.

    Evaluations of kept answers (`logs`, `stored_completions`) load as well; their items, of any form, then come with each run.
    """

    type: Kind
    item_schema: dict[str, Any] | None = None
    include_sample_schema: bool | None = None
    metadata: dict[str, Any] | None = None
    shown: dict[str, Any] | None = Field(None, alias="schema")

    def item(self) -> dict[str, Any]:
        """The schema of an item. Raises RequestError where it is missing."""
        if self.item_schema is not None:
            return self.item_schema
        if self.type != "custom":
            return {"type": "object"}
        match self.shown:
            case {"properties": {"item": dict(found)}}:
                return found
        raise RequestError("item_schema is missing.", param="data_source_config.item_schema", hint="Give the JSON Schema of one item.")

    @property
    def with_sample(self) -> bool:
        if self.type != "custom" or self.include_sample_schema:
            return True
        match self.shown:
            case {"properties": {"sample": _}}:
                return True
        return False


class EvalIn(Body):
    """The last four fields are those of an evaluation that was made elsewhere; it gets new ones here."""

    name: str | None = Field(None, max_length=512)
    metadata: Metadata | None = None
    data_source_config: DataSourceConfig
    testing_criteria: list[Criterion] = Field(min_length=1, max_length=100)
    object: Literal["eval"] | None = None
    id: str | None = None
    created_at: int | None = None
    shared_with_openai: bool | None = None


class EvalChange(Body):
    name: str | None = Field(None, max_length=512)
    metadata: Metadata | None = None


class ConfigOut(Shown):
    type: Literal["custom"] = "custom"
    shown: dict[str, Any] = Field(serialization_alias="schema")


class KeptConfigOut(Shown):
    type: Literal["logs", "stored_completions"]
    shown: dict[str, Any] = Field(serialization_alias="schema")
    metadata: dict[str, Any]


class EvalOut(Shown):
    id: str
    object: Literal["eval"] = "eval"
    name: str
    created_at: int
    metadata: dict[str, str]
    data_source_config: ConfigOut | KeptConfigOut
    testing_criteria: list[dict[str, Any]]

    @classmethod
    def of(cls, row: EvalRow) -> "EvalOut":
        made = row.definition
        parts: dict[str, Any] = {"item": made["item_schema"]}
        if made["with_sample"]:
            parts["sample"] = {"type": "object", "properties": {"output_text": {"type": "string"}}, "required": ["output_text"]}
        schema = {"type": "object", "properties": parts, "required": list(parts)}
        kind: Kind = made.get("kind", "custom")
        config = ConfigOut(shown=schema) if kind == "custom" else KeptConfigOut(type=kind, shown=schema, metadata=made["chosen_by"] or {})
        return cls(
            id=row.id, name=row.name, created_at=row.created_at, metadata=row.meta or {}, data_source_config=config,
            testing_criteria=made["testing_criteria"],
        )  # fmt: skip


class EvalDeleted(Shown):
    object: Literal["eval.deleted"] = "eval.deleted"
    deleted: bool
    eval_id: str


@router.post("", status_code=201)
def create_eval(body: EvalIn, service: ServiceOf, caller: Writer) -> EvalOut:
    """An evaluation: the form of its items, and how answers to them are judged."""
    config = body.data_source_config
    new = use.NewEval(
        name=body.name or "", kind=config.type, chosen_by=config.metadata, item_schema=config.item(), with_sample=config.with_sample, testing_criteria=tuple(body.testing_criteria),
        metadata=body.metadata,
    )  # fmt: skip
    return EvalOut.of(use.create_eval(service, caller, new))


@router.get("")
def list_evals(
    service: ServiceOf, caller: Reader, after: After = None, limit: int = 20, order: str = "asc",
    order_by: Literal["created_at", "updated_at"] = "created_at",
) -> ListingWithEnds[EvalOut]:  # fmt: skip
    page = use.list_evals(service, caller, cursor(limit, after, order), order_by)
    return with_ends([EvalOut.of(row) for row in page.rows], has_more=page.has_more, nobody="")


@router.get("/{eval_id}")
def retrieve_eval(eval_id: str, service: ServiceOf, caller: Reader) -> EvalOut:
    return EvalOut.of(use.get_eval(service, caller, eval_id))


@router.post("/{eval_id}")
def update_eval(eval_id: str, body: EvalChange, service: ServiceOf, caller: Writer) -> EvalOut:
    return EvalOut.of(use.update_eval(service, caller, eval_id, body.name, body.metadata))


@router.delete("/{eval_id}")
def delete_eval(eval_id: str, service: ServiceOf, caller: Writer) -> EvalDeleted:
    """With its runs."""
    use.delete_eval(service, caller, eval_id)
    return EvalDeleted(deleted=True, eval_id=eval_id)

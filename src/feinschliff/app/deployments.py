"""Deployments: a model answers under a name that one chooses, until the deployment is deleted or nobody calls it any more."""
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from feinschliff.app.lineage import check_here
from feinschliff.app.service import Service, new_id
from feinschliff.core.errors import ModelUnavailable
from feinschliff.core.service import Caller, KeyId, ModelName, ProjectId, Scope, Tier
from feinschliff.core.service_errors import Conflict, NotFound, RequestError, no_model
from feinschliff.store import audit, deployments, jobs
from feinschliff.store.database import Session
from feinschliff.store.paging import Cursor, Page
from feinschliff.store.tables import DeploymentRow, ModelRow

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
NOTED_EVERY_S = 60  # a call is written down where the last one on record is older: not every call shall cost a write


@dataclass(frozen=True, slots=True)
class NewDeployment:
    """`model` is a base model's name or a tuned one's. `sku`, `capacity`, `version`, `tags` are kept and shown, as Azure's clients expect."""

    name: str
    model: str
    tier: Tier = Tier.STANDARD
    sku: str = "Standard"
    capacity: int = 1
    version: str = "1"
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Put:
    """A deployment, and whether it is new."""

    row: DeploymentRow
    made: bool


def put_deployment(service: Service, caller: Caller, new: NewDeployment, *, replace: bool = True) -> Put:
    """Make a deployment, or change the one of that name. Raises NotFound for the model, RequestError for the name, and Conflict for a
    name that a model has, or where there is one already and it shall not be replaced."""
    if not NAME.fullmatch(new.name):
        raise RequestError(
            f"{new.name!r} is no name for a deployment.", param="name", hint="Up to 64 letters, digits, '_', '.' and '-', a letter or digit first."
        )
    now = service.clock()
    with service.database.write() as db:
        model = _deployable(service, db, caller, new.model)
        _check_free(service, new.name, model)
        row = deployments.find_deployment(db, caller.project, new.name)
        if row is not None and not replace:
            raise Conflict(f"There is a deployment {new.name!r} already.", param="name", hint="Delete it first, or choose another name.")
        made = row is None
        if row is None:
            row = DeploymentRow(id=new_id("deploy-"), project_id=caller.project, name=new.name, created_at=now)
            db.add(row)
        elif _same(row, new, model):
            return Put(row, made=False)
        row.model, row.tier, row.sku, row.capacity, row.version = model, new.tier, new.sku, new.capacity, new.version
        row.tags, row.updated_at, row.called_at = dict(new.tags), now, None
        audit.record(db, caller, "deployment.create" if made else "deployment.update", row.name, now)
    return Put(row, made)


def get_deployment(service: Service, caller: Caller, name: str) -> DeploymentRow:
    """Raises NotFound."""
    with service.database.read() as db:
        return _existing(db, caller, name)


def list_deployments(service: Service, caller: Caller, cursor: Cursor) -> Page[DeploymentRow]:
    with service.database.read() as db:
        return deployments.list_deployments(db, caller.project, cursor)


def all_deployments(service: Service, caller: Caller) -> Sequence[DeploymentRow]:
    """Of the project, in the order of their making."""
    with service.database.read() as db:
        return deployments.all_deployments(db, caller.project)


def delete_deployment(service: Service, caller: Caller, name: str) -> None:
    """The model stays. Raises NotFound."""
    with service.database.write() as db:
        row = _existing(db, caller, name)
        db.delete(row)
        audit.record(db, caller, "deployment.delete", name, service.clock())


def model_of(service: Service, caller: Caller, name: str) -> str:
    """The model that answers to `name`: that of the project's deployment of this name, which counts as a call of it; else `name`."""
    with service.database.read() as db:
        row = deployments.find_deployment(db, caller.project, name)
    if row is None:
        return name
    now = service.clock()
    if row.called_at is None or now - row.called_at >= NOTED_EVERY_S:
        _note_call(service, caller, name, now)
    return row.model


def remove_overdue(service: Service) -> bool:
    """Delete what is idle or too old, as `Limits` says; False where nothing was. The models stay."""
    limits, now = service.settings.limits, service.clock()
    times = {"called_before": now - limits.standard_idle_s, "deployed_before": now - limits.developer_lives_s}
    with service.database.read() as db:
        if not deployments.overdue(db, **times):
            return False
    with service.database.write() as db:
        for row in deployments.overdue(db, **times):
            db.delete(row)
            sweeper = Caller(ProjectId(row.project_id), KeyId("service"), Scope.WRITE, row.id)
            audit.record(db, sweeper, "deployment.expire", row.name, now)
    return True


def check_not_deployed(db: Session, model: ModelRow) -> None:
    """Before a model is deleted. Raises Conflict."""
    in_use = deployments.deployments_of(db, model)
    if in_use:
        own = [repr(row.name) for row in in_use if row.project_id == model.project_id]
        where = f"as {', '.join(own)}" if own else "by a project that it is granted to"
        hint = "Delete the deployment first." if own else "Revoke the permission first."
        raise Conflict(f"The model {model.name!r} is deployed {where}.", param="model", code="model_deployed", hint=hint)


def _deployable(service: Service, db: Session, caller: Caller, name: str) -> str:
    """The model's own name. Raises NotFound, RequestError."""
    if (tuned := jobs.find_model(db, caller.project, name)) is not None:
        check_here(service, tuned)
        return name
    if name in service.offered.embedders():
        return name
    try:
        return service.offered.find(name)
    except ModelUnavailable as error:
        raise no_model(error) from None


def _check_free(service: Service, name: str, model: str) -> None:
    """A base model's name means that model, with or without deployments."""
    meant = _base_called(service, name)
    if meant not in (None, model):
        raise Conflict(f"{name!r} is the name of a model, and would answer with another one.", param="name", hint="Choose another name.")


def _base_called(service: Service, name: str) -> ModelName | None:
    if name in service.offered.embedders():
        return ModelName(name)
    try:
        return service.offered.find(name)
    except ModelUnavailable:
        return None


def _same(row: DeploymentRow, new: NewDeployment, model: str) -> bool:
    there = (row.model, row.tier, row.sku, row.capacity, row.version, row.tags)
    return there == (model, new.tier, new.sku, new.capacity, new.version, dict(new.tags))


def _note_call(service: Service, caller: Caller, name: str, now: int) -> None:
    with service.database.write() as db:
        row = deployments.find_deployment(db, caller.project, name)
        if row is not None:  # else it was deleted meanwhile
            row.called_at = now


def _existing(db: Session, caller: Caller, name: str) -> DeploymentRow:
    row = deployments.find_deployment(db, caller.project, name)
    if row is None:
        raise NotFound(f"There is no deployment {name!r}.", param="name", code="deployment_not_found", hint="GET /v1/deployments lists them.")
    return row

"""Models: the base models on offer, and what jobs have made of them."""
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from feinschliff.app.deployments import check_not_deployed
from feinschliff.app.lineage import check_not_awaited
from feinschliff.app.service import Service, new_id
from feinschliff.core.errors import ModelUnavailable
from feinschliff.core.service import Caller, JobStatus
from feinschliff.core.service_errors import Conflict, NotFound, no_model
from feinschliff.store import audit, jobs
from feinschliff.store.database import Session
from feinschliff.store.paging import Cursor, Page
from feinschliff.store.tables import ModelRow, PermissionRow


@dataclass(frozen=True, slots=True)
class ListedModel:
    """`created_at` is 0 for base models, whose age is not known."""

    name: str
    created_at: int
    owner: str


def list_models(service: Service, caller: Caller) -> Sequence[ListedModel]:
    """Base models first, then the project's own, oldest first."""
    bases = [ListedModel(name, 0, "feinschliff") for name in service.offered.all()]
    return [*bases, *(_listed(service, row) for row in tuned_models(service, caller))]


def tuned_models(service: Service, caller: Caller) -> Sequence[ModelRow]:
    """The project's own, and checkpoints granted to it; oldest first."""
    with service.database.read() as db:
        return jobs.list_models(db, caller.project)


def get_model(service: Service, caller: Caller, name: str) -> ListedModel:
    """Raises NotFound."""
    with service.database.read() as db:
        if (row := jobs.find_model(db, caller.project, name)) is not None:
            return _listed(service, row)
    if name in service.offered.embedders():
        return ListedModel(name, 0, "feinschliff")
    try:
        return ListedModel(service.offered.find(name), 0, "feinschliff")
    except ModelUnavailable as error:
        raise no_model(error) from None


def delete_model(service: Service, caller: Caller, name: str) -> None:
    """Raises NotFound, Conflict for a base model, one whose job still runs, that is deployed, or that a waiting job starts from."""
    with service.database.write() as db:
        row = _own(service, db, caller, name)
        job = jobs.job_of(db, row.job_id)
        if job is not None and not JobStatus(job.status).ended:
            raise Conflict(f"The job {job.id} that makes {name!r} has not ended.", hint="Cancel it first.", param="model")
        check_not_deployed(db, row)
        check_not_awaited(db, row)
        db.delete(row)
        db.flush()
        shared = jobs.uses_folder(db, row.folder)  # a job's model is its last checkpoint, too
        audit.record(db, caller, "model.delete", name, service.clock())
    if not shared:
        shutil.rmtree(service.settings.data_dir / row.folder, ignore_errors=True)


def grant(service: Service, caller: Caller, checkpoint: str, projects: Sequence[str]) -> list[PermissionRow]:
    """Let other projects use a checkpoint. Granting again is the same permission. Raises NotFound."""
    with service.database.write() as db:
        _own(service, db, caller, checkpoint)
        return [_grant(service, db, caller, checkpoint, project) for project in projects]


def list_permissions(
    service: Service, caller: Caller, checkpoint: str, cursor: Cursor, grantee: str | None
) -> Page[PermissionRow]:
    with service.database.read() as db:
        _own(service, db, caller, checkpoint)
        return jobs.list_permissions(db, checkpoint, cursor, grantee)


def revoke(service: Service, caller: Caller, checkpoint: str, permission_id: str) -> None:
    """Raises NotFound."""
    with service.database.write() as db:
        _own(service, db, caller, checkpoint)
        row = jobs.find_permission(db, checkpoint, permission_id)
        if row is None:
            raise NotFound(f"There is no permission {permission_id!r} for {checkpoint}.", param="permission_id")
        db.delete(row)
        audit.record(db, caller, "permission.delete", permission_id, service.clock())


def _grant(service: Service, db: Session, caller: Caller, checkpoint: str, project: str) -> PermissionRow:
    if not jobs.has_project(db, project):
        raise NotFound(f"There is no project {project!r}.", param="project_ids", hint="`feinschliff keys create --project NAME` makes one.")
    row = jobs.granted_to(db, checkpoint, project)
    if row is None:
        row = PermissionRow(
            id=new_id("cp_"), project_id=caller.project, checkpoint=checkpoint, grantee=project, created_at=service.clock()
        )
        db.add(row)
        db.flush()
        audit.record(db, caller, "permission.create", row.id, service.clock())
    return row


def _own(service: Service, db: Session, caller: Caller, name: str) -> ModelRow:
    row = jobs.find_model(db, caller.project, name)
    if row is None or row.project_id != caller.project:
        if name in service.offered.all():
            raise Conflict(f"{name!r} is a base model: it belongs to nobody here.", param="model")
        raise NotFound(f"The model {name!r} does not exist, or belongs to another project.", param="model", code="model_not_found")
    return row


def _listed(service: Service, row: ModelRow) -> ListedModel:
    return ListedModel(row.name, row.created_at, service.settings.organization)

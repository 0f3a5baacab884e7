"""Tuned models that jobs start from: a job may go on from a tuned model or a checkpoint, which then is its parent.

"Go on" means: the parent's adapter is where the weights begin; the optimizer and the schedule begin anew. The parent's weights
are copied into the run's folder, so that the job is exactly resumable whatever becomes of the parent.
"""
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from feinschliff.app.service import Service
from feinschliff.core.errors import ModelUnavailable
from feinschliff.core.finetune import NewJob
from feinschliff.core.jobs import Method, TrainSpec
from feinschliff.core.service import ProjectId
from feinschliff.core.service_errors import Conflict, RequestError
from feinschliff.providers.remote.named import read_remote
from feinschliff.store import jobs
from feinschliff.store.database import Session
from feinschliff.store.tables import JobRow, ModelRow

TUNED = "ft:"  # what names of tuned models begin with
START = "start"  # RUN_DIR/start: a copy of the parent's adapter


def base_of(service: Service, project: ProjectId, new: NewJob) -> str:
    """The base of the tuned model that the job names; else what it names. Raises RequestError for a tuned model that is not here."""
    with service.database.read() as db:
        parent = jobs.find_model(db, project, new.model)
    if parent is None:
        return new.model
    check_here(service, parent)
    return parent.base


def check_here(service: Service, model: ModelRow) -> None:
    """Raises RequestError where a provider keeps the model: then it is asked there, and no job starts from it."""
    kept = read_remote(service.settings.data_dir / model.folder)
    if kept is not None:
        raise RequestError(
            f"{model.name} is kept in the region {kept.region}, by the name {kept.model}.", param="model", code="model_elsewhere",
            hint=f"It is asked there: feinschliff jobs ask {kept.model} QUESTION --region {kept.region}; in an Azure resource, deploy it first.",
        )  # fmt: skip


def parent_of(row: JobRow) -> str | None:
    """The tuned model or checkpoint that the job starts from."""
    named = NewJob.model_validate(row.request).model
    return named if named.startswith(TUNED) else None


def ancestors(db: Session, row: JobRow) -> Iterator[tuple[str, JobRow | None]]:
    """The parent, its parent …, each with the job that made it; the job is None from where the model has been deleted."""
    name = parent_of(row)
    while name is not None:
        model = jobs.model_of(db, name)
        made_by = None if model is None else jobs.job_of(db, model.job_id)
        yield name, made_by
        name = None if made_by is None else parent_of(made_by)


def bring_start(service: Service, row: JobRow, run: Path) -> Method | None:
    """Copy the parent's adapter to `run`/start; its method, which the job has to share. None where the job starts from the base.

    Raises ModelUnavailable.
    """
    name = parent_of(row)
    if name is None:
        return None
    with service.database.read() as db:
        parent = jobs.find_model(db, ProjectId(row.project_id), name)
    if parent is None:
        raise ModelUnavailable(f"The model {name} has been deleted, or may not be used any more.", hint="Start from another one.")
    try:
        spec = TrainSpec.model_validate_json((service.runs / parent.job_id / "spec.json").read_text(encoding="utf-8"))
        _copy(service.settings.data_dir / parent.folder, run / START)
    except FileNotFoundError as error:
        raise ModelUnavailable(f"The weights of {name} are gone: {error.filename}.", hint="Restore the data folder.") from error
    return spec.method


def check_not_awaited(db: Session, model: ModelRow) -> None:
    """Raises Conflict while a job waits that will start from the model."""
    waiting = jobs.job_to_start_from(db, model.name)
    if waiting is not None:
        raise Conflict(f"The job {waiting.id} is to start from {model.name!r}.", hint="Cancel it, or wait until it trains.", param="model")


def _copy(source: Path, target: Path) -> None:
    """Whole or not at all."""
    if target.is_dir():
        return
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial)
    os.replace(partial, target)

"""The tables. A row is also the record that use cases work with: one description of each thing, not two."""
from typing import Annotated, Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, MetaData, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from feinschliff.core.service import DEFAULT_PROJECT, FileStatus, UploadStatus

# Rows are listed by `seq`, in the order of their making: clocks may go back, and many rows share a second.
Seq = Annotated[int, mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)]
Id = Annotated[str, mapped_column(String(80), unique=True)]
Project = Annotated[str, mapped_column(String(80), ForeignKey("projects.id"), index=True)]
Big = Annotated[int, mapped_column(BigInteger)]
Time = Annotated[int, mapped_column(BigInteger)]  # Unix seconds
Maybe = Annotated[int | None, mapped_column(BigInteger)]


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012  SQLAlchemy reads it from the class


class Listed(Base):
    """What lists are made of."""

    __abstract__ = True
    seq: Mapped[Seq]
    id: Mapped[Id]


class ProjectRow(Listed):
    __tablename__ = "projects"
    name: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[Time]


class KeyRow(Listed):
    """A key is kept as the hash of its text: it is random and long, so a plain SHA-256 cannot be turned back."""

    __tablename__ = "api_keys"
    project_id: Mapped[Project]
    name: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    hint: Mapped[str] = mapped_column(String(16))  # its first characters, to tell it from others
    scope: Mapped[str] = mapped_column(String(8))
    created_at: Mapped[Time]
    revoked_at: Mapped[Maybe]


class FileRow(Listed):
    __tablename__ = "files"
    project_id: Mapped[Project]
    filename: Mapped[str] = mapped_column(String(512))
    purpose: Mapped[str] = mapped_column(String(32))
    bytes: Mapped[Big]
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    status: Mapped[str] = mapped_column(String(16), default=FileStatus.PROCESSED)
    status_details: Mapped[str | None]
    sizes: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # catalog.workload.FileSizes, once it was checked
    stays_in: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))  # regions; None: it may go anywhere
    created_at: Mapped[Time]
    expires_at: Mapped[Maybe] = mapped_column(BigInteger, index=True)

    __table_args__ = (Index("ix_files_status_purpose", "status", "purpose"),)


class UploadRow(Listed):
    """A file that arrives in parts. `file_lives_s` and `stays_in` are of the file it becomes."""

    __tablename__ = "uploads"
    project_id: Mapped[Project]
    filename: Mapped[str] = mapped_column(String(512))
    purpose: Mapped[str] = mapped_column(String(32))
    mime_type: Mapped[str] = mapped_column(String(255))
    bytes: Mapped[Big]
    status: Mapped[str] = mapped_column(String(16), default=UploadStatus.PENDING)
    created_at: Mapped[Time]
    expires_at: Mapped[Time]
    file_lives_s: Mapped[Maybe]
    stays_in: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    file_id: Mapped[str | None] = mapped_column(String(80))


class PartRow(Listed):
    __tablename__ = "upload_parts"
    upload_id: Mapped[str] = mapped_column(String(80), ForeignKey("uploads.id", ondelete="CASCADE"), index=True)
    bytes: Mapped[Big]
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    created_at: Mapped[Time]


class JobRow(Listed):
    """A fine-tuning job. `request` is what was asked for, `hyperparameters` what was resolved; `n_seen` counts the training
    program's events that have been taken over, so that none is told twice."""

    __tablename__ = "jobs"
    project_id: Mapped[Project]
    status: Mapped[str] = mapped_column(String(20), index=True)
    model: Mapped[str] = mapped_column(String(255))
    training_file: Mapped[str] = mapped_column(String(80))
    validation_file: Mapped[str | None] = mapped_column(String(80))
    stays_in: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # file → regions; see `app.residency`
    seed: Mapped[Big]
    suffix: Mapped[str | None] = mapped_column(String(64))
    request: Mapped[dict[str, Any]]
    # JSON's null and SQL's NULL are two things; only the second may stand here.
    meta: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    hyperparameters: Mapped[dict[str, Any]]
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    fine_tuned_model: Mapped[str | None] = mapped_column(String(400))
    result_files: Mapped[list[str]]
    trained_tokens: Mapped[Maybe]
    estimated_finish: Mapped[Maybe]
    n_seen: Mapped[int] = mapped_column(default=0)
    n_deaths: Mapped[int] = mapped_column(default=0)  # of the training program, in a row and without progress
    created_at: Mapped[Time]
    queued_at: Mapped[Maybe]
    started_at: Mapped[Maybe]
    finished_at: Mapped[Maybe]
    traceparent: Mapped[str | None] = mapped_column(String(64))  # of the request that made it
    deleted_at: Mapped[Maybe]  # Azure's clients delete jobs; models and events still refer to the row


class JobUsageRow(Base):
    """What a job is expected to take, and what it has taken: what budgets add up and costs are worked out from."""

    __tablename__ = "job_usage"
    job_id: Mapped[str] = mapped_column(String(80), ForeignKey("jobs.id"), primary_key=True)
    region: Mapped[str] = mapped_column(String(64), index=True)
    expected_tokens: Mapped[Big]  # of all examples, over all epochs
    expected_seconds: Mapped[float]
    tokens: Mapped[Big] = mapped_column(default=0)
    seconds: Mapped[float] = mapped_column(default=0.0)  # of training steps


class IntegrationRow(Base):
    """The `number`th integration of a job's request, for as long as its tracker has not been told everything."""

    __tablename__ = "job_integrations"
    job_id: Mapped[str] = mapped_column(String(80), ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class EventRow(Listed):
    """`key` names what is told: the same thing told again, after a restart, is not a second event."""

    __tablename__ = "job_events"
    job_id: Mapped[str] = mapped_column(String(80), ForeignKey("jobs.id"))
    key: Mapped[str] = mapped_column(String(80))
    created_at: Mapped[Time]
    level: Mapped[str] = mapped_column(String(8))
    type: Mapped[str] = mapped_column(String(8))
    message: Mapped[str]
    data: Mapped[dict[str, Any]]

    __table_args__ = (UniqueConstraint("job_id", "key"),)


class CheckpointRow(Listed):
    __tablename__ = "checkpoints"
    job_id: Mapped[str] = mapped_column(String(80), ForeignKey("jobs.id"))
    step: Mapped[int]
    model: Mapped[str] = mapped_column(String(400))
    metrics: Mapped[dict[str, Any]]
    created_at: Mapped[Time]

    __table_args__ = (UniqueConstraint("job_id", "step"),)


class PermissionRow(Listed):
    """`grantee` may use `checkpoint`, which belongs to the project that granted it."""

    __tablename__ = "checkpoint_permissions"
    project_id: Mapped[Project]
    checkpoint: Mapped[str] = mapped_column(String(400))
    grantee: Mapped[str] = mapped_column(String(80), index=True)
    created_at: Mapped[Time]

    __table_args__ = (UniqueConstraint("checkpoint", "grantee"),)


class ModelRow(Base):
    """A tuned model or a checkpoint: an adapter or whole weights in `folder`, on top of the base model `base`."""

    __tablename__ = "models"
    seq: Mapped[Seq]
    name: Mapped[str] = mapped_column(String(400), unique=True)
    project_id: Mapped[Project]
    job_id: Mapped[str] = mapped_column(String(80), ForeignKey("jobs.id"), index=True)
    base: Mapped[str] = mapped_column(String(255))
    folder: Mapped[str] = mapped_column(String(1024))  # relative to the data folder
    step: Mapped[int | None]  # of a checkpoint
    created_at: Mapped[Time]


class DeploymentRow(Listed):
    """A name under which a model answers. `sku`, `version` and `tags` are what the client stated, and mean nothing here."""

    __tablename__ = "deployments"
    project_id: Mapped[Project]
    name: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(400), index=True)
    tier: Mapped[str] = mapped_column(String(16))
    sku: Mapped[str] = mapped_column(String(64))
    capacity: Mapped[int]
    version: Mapped[str] = mapped_column(String(64))
    tags: Mapped[dict[str, Any]]
    created_at: Mapped[Time]
    updated_at: Mapped[Time]
    called_at: Mapped[Maybe]  # about: see `app.deployments`

    __table_args__ = (UniqueConstraint("project_id", "name"),)


class ModelUsageRow(Base):
    """What a model, a base model or a tuned one, has answered to a project on a day."""

    __tablename__ = "model_usage"
    project_id: Mapped[str] = mapped_column(String(80), ForeignKey("projects.id"), primary_key=True)
    model: Mapped[str] = mapped_column(String(400), primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # since 1970-01-01, UTC
    requests: Mapped[Big]
    prompt_tokens: Mapped[Big]
    cached_tokens: Mapped[Big]
    completion_tokens: Mapped[Big]


class EvalRow(Listed):
    """An evaluation. `definition` holds its `data_source_config` and its `testing_criteria`, which do not change."""

    __tablename__ = "evals"
    project_id: Mapped[Project]
    name: Mapped[str] = mapped_column(String(512))
    definition: Mapped[dict[str, Any]]
    meta: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[Time]
    updated_at: Mapped[Time]


class EvalRunRow(Listed):
    """A run of an evaluation. `tallies` are `app.eval_tallies.Tallies`, changed in the transaction that adds output items."""

    __tablename__ = "eval_runs"
    project_id: Mapped[Project]
    eval_id: Mapped[str] = mapped_column(String(80), ForeignKey("evals.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(512))
    status: Mapped[str] = mapped_column(String(16), index=True)
    model: Mapped[str] = mapped_column(String(400))
    source: Mapped[dict[str, Any]]
    meta: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    n_items: Mapped[int]
    tallies: Mapped[dict[str, Any]]
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[Time]


class EvalItemRow(Listed):
    """What came of one item of a run: the `number`th, from 0 on. `content` is what is shown of it."""

    __tablename__ = "eval_items"
    run_id: Mapped[str] = mapped_column(String(80), ForeignKey("eval_runs.id", ondelete="CASCADE"))
    number: Mapped[int]
    status: Mapped[str] = mapped_column(String(8))
    content: Mapped[dict[str, Any]]
    created_at: Mapped[Time]

    __table_args__ = (UniqueConstraint("run_id", "number"),)


class RepeatRow(Base):
    """A request that was made with an Idempotency-Key, and what it made."""

    __tablename__ = "idempotency"
    seq: Mapped[Seq]
    project_id: Mapped[str] = mapped_column(String(80), default=DEFAULT_PROJECT)
    key: Mapped[str] = mapped_column(String(255))
    request_sha256: Mapped[str] = mapped_column(String(64))
    made: Mapped[str] = mapped_column(String(80))
    created_at: Mapped[Time]

    __table_args__ = (UniqueConstraint("project_id", "key"),)


class AuditRow(Base):
    """Who changed what, and when. Written in the transaction of the change."""

    __tablename__ = "audit"
    seq: Mapped[Seq]
    created_at: Mapped[Time]
    project_id: Mapped[str] = mapped_column(String(80))
    key_id: Mapped[str] = mapped_column(String(80))
    request_id: Mapped[str] = mapped_column(String(80))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(400))

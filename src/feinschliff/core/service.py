"""The words of the service: ids, scopes, purposes and states, as they stand in the database and on the wire."""
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NewType

ProjectId = NewType("ProjectId", str)
KeyId = NewType("KeyId", str)
FileId = NewType("FileId", str)
UploadId = NewType("UploadId", str)
PartId = NewType("PartId", str)
ModelName = NewType("ModelName", str)
Sha256 = NewType("Sha256", str)
Timestamp = NewType("Timestamp", int)  # Unix seconds

DEFAULT_PROJECT = ProjectId("proj_default")

Purpose = Literal["fine-tune", "evals", "batch", "user_data", "vision", "assistants"]
StoredPurpose = Purpose | Literal["fine-tune-results"]  # the last one is written by jobs only
Order = Literal["asc", "desc"]


class Scope(StrEnum):
    """What a key may do; each includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def includes(self, needed: "Scope") -> bool:
        return list(Scope).index(self) >= list(Scope).index(needed)


class FileStatus(StrEnum):
    UPLOADED = "uploaded"  # a training file that has not been checked yet
    PROCESSED = "processed"
    ERROR = "error"


class UploadStatus(StrEnum):
    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class JobStatus(StrEnum):
    """OpenAI's words, and "paused", which their API does and has no word for."""

    VALIDATING = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


class RunStatus(StrEnum):
    """Of a run of an evaluation, in OpenAI's words and spelling."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELED = "canceled"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        return self not in (RunStatus.QUEUED, RunStatus.IN_PROGRESS)


class Tier(StrEnum):
    """How long a deployment lives: Azure's standard ones go when nobody calls them, its developer ones after a day."""

    STANDARD = "standard"
    DEVELOPER = "developer"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request. Everything that is stored belongs to a project, and no project sees another's."""

    project: ProjectId
    key: KeyId
    scope: Scope
    request_id: str = ""

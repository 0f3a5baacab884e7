"""What providers answer, as far as it is read here. Real answers bend the published schemas, so nothing else is asked of them.

Azure has statuses of its own ("created", "pending", "resuming" …), `organization_id: null`, and -1 for what is chosen automatically.
"""
from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, NewType

from pydantic import BaseModel, ConfigDict, Field

RemoteJobId = NewType("RemoteJobId", str)
RemoteFileId = NewType("RemoteFileId", str)


class Told(BaseModel):
    """Base of them all: further keys are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class State(StrEnum):
    """Of a job, in the words that all providers' come down to."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


STATES = {
    "running": State.RUNNING, "pausing": State.PAUSED, "paused": State.PAUSED, "resuming": State.WAITING,
    "succeeded": State.SUCCEEDED, "failed": State.FAILED, "cancelled": State.CANCELLED, "canceled": State.CANCELLED,
}  # fmt: skip


class JobError(Told):
    code: str | None = None
    message: str | None = None


class RemoteJob(Told):
    id: RemoteJobId
    created_at: int = 0
    finished_at: int | None = None
    status: str
    model: str = ""
    fine_tuned_model: str | None = None
    trained_tokens: int | None = None
    training_file: str = ""
    error: JobError | None = None
    metadata: Mapping[str, str] | None = None
    result_files: tuple[str, ...] | None = None

    @property
    def state(self) -> State:
        """A status that is not known is one of the many before training."""
        return STATES.get(self.status, State.WAITING)

    @property
    def why(self) -> str:
        """Why it failed, in the provider's words."""
        if self.error is None or not self.error.message:
            return "The provider gives no reason."
        return f"{self.error.message} ({self.error.code})" if self.error.code else self.error.message


class Metrics(Told):
    """`data` of a metrics event; what was not measured is missing, or null."""

    step: int | None = None
    total_steps: int | None = None
    train_loss: float | None = None
    train_mean_token_accuracy: float | None = None
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None


class RemoteEvent(Told):
    id: str
    created_at: int = 0
    level: Literal["info", "warn", "warning", "error"] = "info"
    message: str = ""
    type: str | None = "message"
    data: Metrics | None = None


class RemoteCheckpoint(Told):
    fine_tuned_model_checkpoint: str
    step_number: int


class RemoteFile(Told):
    id: RemoteFileId
    filename: str = ""
    bytes: int | None = None
    status: str = "processed"
    status_details: str | None = None
    created_at: int = Field(0)

    @property
    def usable(self) -> bool:
        return self.status not in ("error", "deleting", "deleted")

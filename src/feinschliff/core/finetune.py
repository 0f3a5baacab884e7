"""A fine-tuning job as a client asks for it, in the words of the fine-tuning API."""
import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from feinschliff.core.chat import Wire
from feinschliff.core.jobs import Auto

# PostgreSQL would keep a NUL within JSON, but every later search of that JSON would fail.
_Key = Annotated[str, Field(max_length=64, pattern=r"^[^\x00]*$")]
_Value = Annotated[str, Field(max_length=512, pattern=r"^[^\x00]*$")]


_Text = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00]*$")]
_Tag = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00]*$")]
MOST_INTEGRATIONS = 5  # of a job, as the hosted service has it


class WandbRun(Wire):
    """Weights & Biases: OpenAI's fields. Without a name the run has the job's id."""

    project: _Text
    name: _Text | None = None
    entity: _Text | None = None
    tags: tuple[_Tag, ...] | None = Field(None, max_length=32)


class WandbIntegration(Wire):
    type: Literal["wandb"]
    wandb: WandbRun


class MlflowRun(Wire):
    """MLflow. `tracking_uri` None: the server's own (MLFLOW_TRACKING_URI), else a SQLite file in the data folder."""

    experiment: _Text = "feinschliff"
    run_name: _Text | None = None
    tags: dict[_Key, _Value] = Field(default_factory=dict, max_length=16)
    tracking_uri: str | None = Field(None, max_length=512, pattern=r"^https?://[^\s@\x00]+$")  # no user or password: they would be stored


class MlflowIntegration(Wire):
    type: Literal["mlflow"]
    mlflow: MlflowRun = MlflowRun()


class TensorboardRun(Wire):
    """TensorBoard: event files below the data folder. `log_dir` is relative to the project's own folder there."""

    log_dir: str = Field("", max_length=200)

    @model_validator(mode="after")
    def _stays_below(self) -> Self:
        if not re.fullmatch(r"(?:[\w-][\w.-]*(?:/[\w-][\w.-]*)*/?)?", self.log_dir, re.ASCII):
            raise ValueError("log_dir is a relative path of letters, digits, '.', '_' and '-'; no part begins with '.'")
        return self


class TensorboardIntegration(Wire):
    type: Literal["tensorboard"]
    tensorboard: TensorboardRun = TensorboardRun()


Integration = Annotated[WandbIntegration | MlflowIntegration | TensorboardIntegration, Field(discriminator="type")]


class TuningHyperparameters(Wire):
    """What a client may choose. "auto" is resolved where the training is done, from the data and the model."""

    batch_size: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    learning_rate_multiplier: Annotated[float, Field(gt=0)] | Auto = "auto"
    n_epochs: Annotated[int, Field(ge=1, le=50)] | Auto = "auto"

    @property
    def multiplier(self) -> float:
        """Of the learning rate that is chosen for the data and the model."""
        return 1.0 if self.learning_rate_multiplier == "auto" else self.learning_rate_multiplier


class NewJob(Wire):
    """`metadata` is the client's own; `method` is "supervised", as nothing else is trained here; `region` None is this machine."""

    model: str
    training_file: str
    validation_file: str | None = None
    suffix: str | None = Field(None, min_length=1, max_length=64)
    seed: int | None = Field(None, ge=0, le=2_147_483_647)
    metadata: dict[_Key, _Value] | None = Field(None, max_length=16)
    hyperparameters: TuningHyperparameters = TuningHyperparameters()
    method: Literal["supervised"] = "supervised"
    region: str | None = None
    integrations: tuple[Integration, ...] = Field((), max_length=MOST_INTEGRATIONS)

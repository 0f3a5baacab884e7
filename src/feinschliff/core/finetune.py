"""A fine-tuning job as a client asks for it, in the words of the fine-tuning API."""
from typing import Annotated, Literal

from pydantic import Field

from feinschliff.core.chat import Wire
from feinschliff.core.jobs import Auto

# PostgreSQL would keep a NUL within JSON, but every later search of that JSON would fail.
_Key = Annotated[str, Field(max_length=64, pattern=r"^[^\x00]*$")]
_Value = Annotated[str, Field(max_length=512, pattern=r"^[^\x00]*$")]


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

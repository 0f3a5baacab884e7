"""What is known of a model, each group of facts with the place and day it was read. What is not known is None, never a guess."""
from datetime import date, timedelta
from typing import Literal

from pydantic import Field

from feinschliff.core.chat import Wire

Stage = Literal["preview", "available", "deprecating", "retired"]
NOTICE = timedelta(days=90)  # before a date, warnings begin


class RequestTokens(Wire):
    """The longest request. Where a source gives one number for the request as a whole, it is `input`, and `output` is None."""

    input: int | None = None
    output: int | None = None


class Change(Wire):
    """A stage that was announced after the model's first listing."""

    stage: Stage
    on: date
    source: str


class Lifecycle(Wire):
    """How long a hosted model can be tuned and can answer. Weights that one holds oneself do not retire."""

    listed_as: Stage = "available"  # by the source that the model's row was taken from
    changes: tuple[Change, ...] = ()
    fine_tuning_until: date | None = None  # "no earlier than" dates count as the date
    inference_until: date | None = None  # of tuned models, where they outlive their base
    replacement: str | None = None  # as its provider recommends
    source: str = ""

    def stage(self, today: date) -> Stage:
        """By what was announced and the dates reached: retired when it no longer answers, deprecating when it can't be tuned any more."""
        if self.inference_until is not None and self.inference_until <= today:
            return "retired"
        announced = next((c.stage for c in sorted(self.changes, key=lambda c: c.on, reverse=True) if c.on <= today), self.listed_as)
        if announced != "retired" and self.fine_tuning_until is not None and self.fine_tuning_until <= today:
            return "deprecating"
        return announced

    def can_be_tuned(self, today: date) -> bool:
        over = self.fine_tuning_until is not None and self.fine_tuning_until <= today
        return not over and self.stage(today) != "retired"

    def warnings(self, today: date) -> tuple[str, ...]:
        """A sentence for each date that is reached, or will be within NOTICE."""
        dates = (("Fine-tuning", self.fine_tuning_until), ("Inference", self.inference_until))
        return tuple(_sentence(what, when, today) for what, when in dates if when is not None and when - today <= NOTICE)


def _sentence(what: str, when: date, today: date) -> str:
    days = (when - today).days
    if days <= 0:
        return f"{what} ended on {when}."
    return f"{what} ends on {when}, in {days} {'day' if days == 1 else 'days'}."


class Architecture(Wire):
    """A dense decoder's sizes, as its config.json has them. What `catalog.fit` needs to know before anything is downloaded."""

    hidden: int = Field(ge=1)
    layers: int = Field(ge=1)
    intermediate: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    vocabulary: int = Field(ge=1)
    tied: bool  # the head is the embedding
    fused: bool = True  # layers of Llama's form, which `nn.fused` replaces; not with norms of query and key (Qwen 3, Gemma 3)
    source: str

    @property
    def projections(self) -> tuple[tuple[int, int], ...]:
        """(out, in) of one layer's linear projections: q, k, v, o, gate, up, down."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return (
            (q, self.hidden), (kv, self.hidden), (kv, self.hidden), (self.hidden, q),
            (self.intermediate, self.hidden), (self.intermediate, self.hidden), (self.hidden, self.intermediate),
        )  # fmt: skip

    @property
    def linear_parameters(self) -> int:
        """Weights of all layers' projections; norms and biases are less than a thousandth of them."""
        return self.layers * sum(n_out * n_in for n_out, n_in in self.projections)

    @property
    def embedding_parameters(self) -> int:
        return self.hidden * self.vocabulary * (1 if self.tied else 2)

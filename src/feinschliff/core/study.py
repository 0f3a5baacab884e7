"""The study file: the answer sheet to "should we fine-tune?", as frozen types. `STUDY.toml` is read into this in compose.

Paths are relative to the study file. Unknown keys are refused (with the nearest right name, by the reader).
"""
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from feinschliff.core.chat import Wire
from feinschliff.core.jobs import Hyperparameters, Lora, Method, Precision

Ingredient = Literal["base", "prompt", "few_shot", "retrieval", "tuned"]
INGREDIENTS: tuple[Ingredient, ...] = ("base", "prompt", "few_shot", "retrieval", "tuned")
DEFAULT_ARMS = ("base", "prompt", "few_shot", "retrieval", "prompt+few_shot+retrieval", "tuned", "tuned+prompt+retrieval")


def ingredients(arm: str) -> tuple[str, ...]:
    """An arm's name is its recipe: "tuned+prompt+retrieval" → ("tuned", "prompt", "retrieval")."""
    return tuple(arm.split("+"))


class Mapping(Wire):
    """How rows of any JSONL/JSON/CSV/TSV/Parquet become chats. `input`/`output` name fields; the templates are Jinja2 over the row."""

    input: str | None = None
    output: str | None = None
    system: str | None = None  # text of the system message
    input_template: str | None = None  # e.g. "{{ nl }}\nDate: {{ date }}"
    output_template: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> "Mapping":
        if not (self.input or self.input_template):
            raise ValueError("a mapping needs `input` (a field) or `input_template` (Jinja2)")
        if not (self.output or self.output_template):
            raise ValueError("a mapping needs `output` (a field) or `output_template` (Jinja2)")
        return self


Format = Literal["auto", "chat", "completion", "alpaca", "sharegpt", "mapped"]


class Data(Wire):
    """Where the labelled examples are and how to read them."""

    files: tuple[str, ...] = Field(min_length=1)
    format: Format = "auto"
    mapping: Mapping | None = None
    labelled_by: str = ""  # who or what wrote the answers; evidence for the decision record
    curated: str = ""  # what was done to curate them
    max_examples: int | None = Field(None, ge=1)  # use the first n after shuffling with the split's seed


class Split(Wire):
    """How train, validation and test are parted. Fractions are of the rows (or groups) of `data.files`."""

    test_files: tuple[str, ...] = ()  # a held-out set of its own; then `test` is not cut from the data
    test: float = Field(0.15, ge=0, lt=1)
    validation: float = Field(0.05, ge=0, lt=1)
    group: str | None = None  # rows with the same value of this field stay together
    part: str | None = None  # a field of the test rows; metrics are also reported for each of its values
    seed: int = 0
    near_duplicate: float = Field(0.9, gt=0, le=1)  # Jaccard similarity of word 3-shingles of the questions
    leaks: Literal["drop_from_train", "report"] = "drop_from_train"


class Prompt(Wire):
    """The engineered prompt: replaces the system text. One of `system` (text) or `file`."""

    system: str | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _one(self) -> "Prompt":
        if (self.system is None) == (self.file is None):
            raise ValueError("[prompt] takes exactly one of `system` (text) and `file` (a path)")
        return self


class FewShot(Wire):
    k: int = Field(4, ge=1, le=64)


class Retrieval(Wire):
    """Documents (globs) searched with BM25 and embeddings; the best `k` chunks go into the prompt."""

    documents: tuple[str, ...] = Field(min_length=1)
    k: int = Field(3, ge=1, le=64)
    chunk_words: int = Field(180, ge=20)
    embedding: str = "all-minilm-l6-v2"  # a catalogue id, or a folder


class Model(Wire):
    base: str = "smollm2-135m-instruct"  # a catalogue id, or a folder
    max_output_tokens: int = Field(160, ge=1)
    temperature: float = Field(0.0, ge=0)
    seed: int = 0
    batch_size: int = Field(32, ge=1)  # conversations decoded together


class Training(Wire):
    """What the tuned arms share. `contexts` are the recipes the examples are shown in while training ("plain" = bare),
    rotated over the epochs, so that one adapter serves both the bare and the prompted tuned arm.
    """

    method: Method = Lora()
    hyperparameters: Hyperparameters = Hyperparameters()
    contexts: tuple[str, ...] = ("plain",)
    precision: Precision = "auto"
    max_tokens: int | None = None
    seed: int = 0


class GraderSpec(Wire):
    """One grader: `type` names it (built-in or an entry point), `options` are its own and checked by it."""

    name: str
    type: str
    options: dict[str, object] = Field(default_factory=dict)


class Goal(Wire):
    """Success, defined before anything is trained."""

    grader: str
    at_least: float
    part: str | None = None  # judged on this part of the held-out set only
    not_worse: tuple[str, ...] = ()  # graders on which the tuned arm may not fall below the best untuned arm …
    margin: float = Field(0.02, ge=0)  # … by more than this


class Traffic(Wire):
    requests_per_month: int = Field(0, ge=0)


class Prices(Wire):
    """User-set prices in one currency. Training is billed by the measured machine time, answers by the hosting hours."""

    currency: str = "USD"
    machine_hour: float = Field(0.0, ge=0)  # the machine that trains
    hosting_hour: float = Field(0.0, ge=0)  # extra cost of keeping the tuned model up, per hour
    input_million_tokens: float = Field(0.0, ge=0)
    output_million_tokens: float = Field(0.0, ge=0)


class Measure(Wire):
    latency_requests: int = Field(8, ge=0)  # requests per arm timed one at a time
    worst_answers: int = Field(8, ge=0)  # shown per arm in the report
    bootstrap: int = Field(2000, ge=200)


class Study(Wire):
    """One task, one frozen held-out set, several arms, one verdict."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    task: str
    why: str  # the reason to consider fine-tuning
    tried: tuple[str, ...] = ()  # what has been tried so far, with results
    arms: tuple[str, ...] = DEFAULT_ARMS
    data: Data
    split: Split = Split()
    prompt: Prompt | None = None
    few_shot: FewShot = FewShot()
    retrieval: Retrieval | None = None
    model: Model = Model()
    training: Training = Training()
    graders: Annotated[tuple[GraderSpec, ...], Field(min_length=1)]
    goal: Goal
    traffic: Traffic = Traffic()
    prices: Prices = Prices()
    measure: Measure = Measure()

    @field_validator("arms")
    @classmethod
    def _known_arms(cls, arms: tuple[str, ...]) -> tuple[str, ...]:
        for arm in arms:
            for part in ingredients(arm):
                if part not in INGREDIENTS:
                    raise ValueError(f"arm {arm!r}: {part!r} is not one of {', '.join(INGREDIENTS)}")
        if len(set(arms)) != len(arms):
            raise ValueError("an arm is named twice")
        return arms

    @model_validator(mode="after")
    def _consistent(self) -> "Study":
        names = [g.name for g in self.graders]
        if len(set(names)) != len(names):
            raise ValueError("two graders have the same name")
        for wanted in (self.goal.grader, *self.goal.not_worse):
            if wanted not in names:
                raise ValueError(f"goal: no grader is called {wanted!r}; there are {', '.join(names)}")
        used = {p for arm in self.arms for p in ingredients(arm)}
        used |= {p for context in self.training.contexts if context != "plain" for p in ingredients(context)}
        if "prompt" in used and self.prompt is None:
            raise ValueError("an arm or training context uses `prompt`, but there is no [prompt] table")
        if "retrieval" in used and self.retrieval is None:
            raise ValueError("an arm or training context uses `retrieval`, but there is no [retrieval] table")
        return self

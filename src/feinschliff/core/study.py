"""The study file: the answer sheet to "should we fine-tune?", as frozen types. `STUDY.toml` is read into this in compose.

Paths are relative to the study file. Unknown keys are refused (with the nearest right name, by the reader).
"""
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from feinschliff.core.chat import Wire
from feinschliff.core.finetune import TuningHyperparameters
from feinschliff.core.jobs import EarlyStopping, Grouping, Hyperparameters, Lora, Method, Precision

Ingredient = Literal["base", "prompt", "few_shot", "retrieval", "tuned"]
INGREDIENTS: tuple[Ingredient, ...] = ("base", "prompt", "few_shot", "retrieval", "tuned")
DEFAULT_ARMS = ("base", "prompt", "few_shot", "retrieval", "prompt+few_shot+retrieval", "tuned", "tuned+prompt+retrieval")


HOST_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"


def ingredients(arm: str) -> tuple[str, ...]:
    """An arm's name is its recipe: "tuned+prompt+retrieval" → ("tuned", "prompt", "retrieval")."""
    return tuple(arm.split("+"))


class Mapping(Wire):
    """How rows of any JSONL/JSON/CSV/TSV/Parquet become chats. `input`/`output` name fields; the templates are Jinja2 over the row."""

    input: str | None = Field(None, description="The field that holds the question.")
    output: str | None = Field(None, description="The field that holds the answer.")
    system: str | None = Field(None, description="Text of the system message; none without it.")
    input_template: str | None = Field(
        None, description="The question as a Jinja2 template over the row, e.g. `{{ nl }} (on {{ date }})`."
    )
    output_template: str | None = Field(None, description="The answer as a Jinja2 template over the row.")

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

    files: tuple[str, ...] = Field(
        min_length=1, description="JSONL, JSON, CSV, TSV or Parquet files with the labelled examples."
    )
    format: Format = Field("auto", description="What the rows look like; `auto` looks at them.")
    mapping: Mapping | None = Field(None, description="Which fields are question and answer; needed for `mapped`.")
    labelled_by: str = Field("", description="Who or what wrote the answers; evidence for the decision record.")
    curated: str = Field("", description="What was done to curate them; evidence for the decision record.")
    max_examples: int | None = Field(
        None, ge=1, description="Use the first n after shuffling with the split's seed; all without it."
    )
    stays_in: tuple[str, ...] = Field(
        (), description="Regions that the data may not leave, `local` for this machine; empty: it may go anywhere."
    )


class Split(Wire):
    """How train, validation and test are parted. Fractions are of the rows (or groups) of `data.files`."""

    test_files: tuple[str, ...] = Field(
        (), description="A held-out set of its own; then `test` is not cut from the data."
    )
    test: float = Field(0.15, ge=0, lt=1, description="Fraction held out for the verdict.")
    validation: float = Field(0.05, ge=0, lt=1, description="Fraction watched while training.")
    group: str | None = Field(None, description="Rows with the same value of this field stay together.")
    part: str | None = Field(
        None, description="A field of the test rows; metrics are also reported for each of its values."
    )
    seed: int = Field(0, description="The same seed gives the same parts.")
    near_duplicate: float = Field(
        0.9, gt=0, le=1, description="Jaccard similarity of the questions' word 3-shingles from which two are the same."
    )
    leaks: Literal["drop_from_train", "report"] = Field(
        "drop_from_train", description="What happens to training rows that also stand in the held-out set."
    )


class Prompt(Wire):
    """The engineered prompt: replaces the system text. One of `system` (text) or `file`."""

    system: str | None = Field(None, description="The text itself.")
    file: str | None = Field(None, description="A text file that holds it.")

    @model_validator(mode="after")
    def _one(self) -> "Prompt":
        if (self.system is None) == (self.file is None):
            raise ValueError("[prompt] takes exactly one of `system` (text) and `file` (a path)")
        return self


class FewShot(Wire):
    """The training examples most like the question, shown before it."""

    k: int = Field(4, ge=1, le=64, description="How many.")


class Retrieval(Wire):
    """Documents (globs) searched with BM25 and embeddings; the best `k` chunks go into the prompt."""

    documents: tuple[str, ...] = Field(
        min_length=1, description="Globs of Markdown, JSON, JSONL or text files; `**` matches folders of any depth."
    )
    k: int = Field(3, ge=1, le=64, description="How many chunks go into the prompt.")
    chunk_words: int = Field(180, ge=20, description="The longest chunk, in words.")
    embedding: str = Field("all-minilm-l6-v2", description="Embedding model: a catalogue id, or a folder.")


class Model(Wire):
    """The base model of every arm, and how it answers."""

    base: str = Field("smollm2-135m-instruct", description="A catalogue id, or a folder.")
    max_output_tokens: int = Field(160, ge=1, description="An answer is cut here, and the cut is counted.")
    temperature: float = Field(0.0, ge=0, description="0 is greedy: always the likeliest token.")
    seed: int = Field(0, description="Of the sampling, where the temperature is above 0.")
    batch_size: int = Field(128, ge=1, description="Conversations decoded together.")


class Training(Wire):
    """What the tuned arms share. `contexts` are the recipes the examples are shown in while training ("plain" = bare),
    in turn from batch to batch, so that one adapter serves both the bare and the prompted tuned arm. Name one twice to double its share.
    """

    method: Method = Field(Lora(), description='`kind = "lora"` or `"qlora"` (adapters), or `kind = "full"` (every weight).')
    hyperparameters: Hyperparameters = Field(Hyperparameters(), description="Epochs, batch, learning rate.")
    contexts: tuple[str, ...] = Field(
        ("plain",), description='What is around the examples: `plain`, or recipes such as `prompt+retrieval`.'
    )
    precision: Precision = Field("auto", description="`auto` decides by the machine.")
    max_tokens: int | None = Field(
        None, description="Longer examples are left out and named; the model's own limit without it."
    )
    seed: int = Field(0, description="Of the order of examples and the new weights.")
    grouping: Grouping = Field(
        "step", description='`"epoch"` brings examples with long common beginnings into the same steps: faster, less mixed.'
    )
    validate_every_steps: int | None = Field(None, ge=1, description="After every epoch without it, and at the end.")
    early_stopping: EarlyStopping | None = Field(None, description="When to end before the last epoch.")
    keep_best: bool = Field(False, description="The tuned model is the one of the lowest validation loss, not the last.")
    lr_probe: bool = Field(False, description="Find the learning rate by a short range probe around the given one.")
    seeds: int = Field(
        1, ge=1, le=32,
        description="Trainings with the seeds `seed`, `seed` + 1 …; tuned arms are judged by all of them, see docs/uncertainty.md.",
    )  # fmt: skip
    learning_curve: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (), description="Parts of the training data, such as `[0.25, 0.5]`, to train on as well: would more data help?"
    )

    @field_validator("learning_curve")
    @classmethod
    def _ascending(cls, parts: tuple[float, ...]) -> tuple[float, ...]:
        if list(parts) != sorted(set(parts)):
            raise ValueError("name the parts in ascending order, each once, such as [0.25, 0.5, 1.0]")
        if parts == (1.0,):
            raise ValueError("a curve has more than one point: name a part below 1 too; all of the data is measured anyway")
        return parts


class Hosted(Wire):
    """A model that answers elsewhere, in a region of the kind `azure` or `openai`. Its name is an ingredient: with `[hosted.azure]` an arm
    `azure+prompt` is that model with the prompt, and `azure+tuned` is that model tuned there, see docs/providers.md.
    """

    region: str = Field(description="A region of regions.toml.")
    model: str = Field(description="A catalogue id that the region has.")
    deployment: str | None = Field(None, description="Where the untuned model answers by another name than its own: at Azure, its deployment's.")
    hyperparameters: TuningHyperparameters | None = Field(
        None, description="How it is tuned, with the provider's method; without it `[training]` holds, as far as the provider knows it."
    )


class GraderSpec(Wire):
    """One grader: `type` names it (built-in or an entry point), `options` are its own and checked by it."""

    name: str = Field(description="The metric's name in the report.")
    type: str = Field(description="Which grader: a built-in one, or one of an installed package.")
    options: dict[str, object] = Field(default_factory=dict, description="The grader's own settings.")


class Goal(Wire):
    """Success, defined before anything is trained."""

    grader: str = Field(description="The name of the grader that decides.")
    at_least: float = Field(description="The value that counts as success.")
    part: str | None = Field(None, description="Judged on this part of the held-out set only (see `split.part`).")
    not_worse: tuple[str, ...] = Field(
        (), description="Graders on which the tuned arm may not fall below the best untuned arm."
    )
    margin: float = Field(0.02, ge=0, description="How far below still counts as not worse.")


class Traffic(Wire):
    """What the model will have to answer; turns the measured tokens into money."""

    requests_per_month: int = Field(0, ge=0, description="Expected requests a month.")


class Prices(Wire):
    """User-set prices in one currency. Training is billed by the measured machine time, answers by the hosting hours."""

    currency: str = Field("USD", description="A name for the amounts; nothing is converted.")
    machine_hour: float = Field(0.0, ge=0, description="The machine that trains, per hour.")
    hosting_hour: float = Field(0.0, ge=0, description="Extra cost of keeping the tuned model up, per hour.")
    input_million_tokens: float = Field(0.0, ge=0, description="A million tokens read.")
    output_million_tokens: float = Field(0.0, ge=0, description="A million tokens written.")


class Measure(Wire):
    """How thoroughly the arms are measured."""

    latency_requests: int = Field(8, ge=0, description="Requests per arm that are timed one at a time.")
    worst_answers: int = Field(8, ge=0, description="Answers shown per arm in the report.")
    bootstrap: int = Field(2000, ge=200, description="Resamples behind the intervals.")


class Study(Wire):
    """One task, one frozen held-out set, several arms, one verdict."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Letters, digits, dots, dashes; names the output."
    )
    task: str = Field(description="What goes in and what shall come out.")
    why: str = Field(description="The reason to consider fine-tuning.")
    tried: tuple[str, ...] = Field((), description="What has been tried so far, with results.")
    hosted: dict[Annotated[str, Field(pattern=HOST_NAME)], Hosted] = Field(default_factory=dict)
    arms: tuple[str, ...] = Field(
        DEFAULT_ARMS, description="What is compared; a name is a recipe of ingredients joined by `+`."
    )
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

    def host_of(self, arm: str) -> str | None:
        """The `[hosted.NAME]` whose model answers this arm; None: this machine's."""
        return next((part for part in ingredients(arm) if part in self.hosted), None)

    @field_validator("hosted")
    @classmethod
    def _own_names(cls, hosted: dict[str, Hosted]) -> dict[str, Hosted]:
        for name in hosted:
            if name in (*INGREDIENTS, "plain"):
                raise ValueError(f"{name!r} means something else in an arm; choose another name")
        return hosted

    @field_validator("arms")
    @classmethod
    def _known_arms(cls, arms: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not arms:
            raise ValueError(f"a study compares arms; name some, or leave the line out for {', '.join(DEFAULT_ARMS)}")
        hosted = info.data.get("hosted", {})  # validated before, as it stands above
        known = (*INGREDIENTS, *hosted)
        for arm in arms:
            for part in ingredients(arm):
                if part not in known:
                    raise ValueError(f"arm {arm!r}: {part!r} is not one of {', '.join(known)}")
            if sum(part in hosted for part in ingredients(arm)) > 1:
                raise ValueError(f"arm {arm!r}: one model answers an arm, not two")
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
        for name in ("early_stopping", "keep_best"):
            if getattr(self.training, name) and not self.split.validation:
                raise ValueError(f"training.{name}: goes by the validation loss, but split.validation is 0")
        used = {p for arm in self.arms for p in ingredients(arm)}
        used |= {p for context in self.training.contexts if context != "plain" for p in ingredients(context)}
        if "prompt" in used and self.prompt is None:
            raise ValueError("an arm or training context uses `prompt`, but there is no [prompt] table")
        if "retrieval" in used and self.retrieval is None:
            raise ValueError("an arm or training context uses `retrieval`, but there is no [retrieval] table")
        return self

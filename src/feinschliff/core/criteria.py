"""OpenAI's graders, as its Evals API and its grader endpoints take them: how one item, and what a model made of it, is judged."""
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from feinschliff.core.chat import Wire

Role = Literal["user", "assistant", "system", "developer"]
SimilarityMetric = Literal[
    "fuzzy_match", "bleu", "gleu", "meteor", "cosine", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"
]  # fmt: skip
Name = Annotated[str, Field(min_length=1, max_length=256)]


class Part(Wire):
    """The text of a message."""

    type: Literal["input_text", "output_text"] = "input_text"
    text: str


_Piece = str | Part | dict[str, object]  # as written; the validation sees what else comes


def _one_text(given: _Piece | list[_Piece] | tuple[_Piece, ...]) -> object:
    """The several forms of a message's content, as one part. What is no text is left for the validation to refuse."""
    match given:
        case list() | tuple():
            parts: Sequence[_Piece] = given
        case _:
            parts = [given]
    texts: list[str] = []
    for part in parts:
        match part:
            case str():
                texts.append(part)
            case Part():
                texts.append(part.text)
            case {"type": "text" | "input_text" | "output_text", "text": str(text)}:
                texts.append(text)
            case _:
                raise ValueError("only text is taken here: images, files and sound are not")
    return {"text": "".join(texts)}


class Say(Wire):
    """One message of a template; `{{ item.x }}` and `{{ sample.x }}` in it are filled in. `phase` is taken and means nothing here."""

    type: Literal["message"] = "message"
    role: Role
    content: Annotated[Part, BeforeValidator(_one_text)]
    phase: str | None = Field(None, exclude=True)


class Grader(Wire):
    """`id` is what the hosted service adds to a criterion that it shows: taken, so that one can be moved here, and forgotten."""

    id: str | None = Field(None, exclude=True)
    name: Name


class StringCheck(Grader):
    """1 where `input` equals `reference` (eq), does not (ne), or contains it (like; ilike in any case)."""

    type: Literal["string_check"]
    input: str
    reference: str
    operation: Literal["eq", "ne", "like", "ilike"]


class TextSimilarity(Grader):
    """How alike two texts are, in [0, 1]; passed from `pass_threshold` on."""

    type: Literal["text_similarity"]
    input: str
    reference: str
    evaluation_metric: SimilarityMetric
    pass_threshold: float | None = None


class PythonCode(Grader):
    """`source` defines `grade(sample, item) -> float`. `image_tag` is taken; there is one image here, this Python."""

    type: Literal["python"]
    source: str = Field(max_length=256 * 1024)
    image_tag: str | None = None
    pass_threshold: float | None = None


class GraderSampling(Wire):
    """Both spellings of the limit are about. `reasoning_effort` is taken and changes nothing."""

    seed: int | None = None
    top_p: float | None = Field(None, gt=0, le=1)
    temperature: float | None = Field(None, ge=0, le=2)
    max_completions_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    reasoning_effort: str | None = None

    @property
    def most_tokens(self) -> int | None:
        return self.max_completions_tokens or self.max_completion_tokens


class ScoreModel(Grader):
    """A model gives a number in `range`, which is [0, 1] where none is given."""

    type: Literal["score_model"]
    model: str
    input: tuple[Say, ...] = Field(min_length=1)
    sampling_params: GraderSampling | None = None
    range: tuple[float, float] | None = None
    pass_threshold: float | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        return self.range or (0.0, 1.0)


class LabelModel(Grader):
    """A model gives one of `labels`; passed where it is among `passing_labels`. `sampling_params` are shown by the hosted service, as null
    where none were given; they are taken as those of a score model."""

    type: Literal["label_model"]
    model: str
    input: tuple[Say, ...] = Field(min_length=1)
    labels: tuple[str, ...] = Field(min_length=1)
    passing_labels: tuple[str, ...] = Field(min_length=1)
    sampling_params: GraderSampling | None = None


Single = Annotated[StringCheck | TextSimilarity | PythonCode | ScoreModel | LabelModel, Field(discriminator="type")]


class Multi(Grader):
    """`calculate_output` is arithmetic over the scores of `graders`, by their names. The published schema has one grader, the
    guides a mapping of names to graders; both are taken, and a list."""

    type: Literal["multi"]
    graders: Single | tuple[Single, ...] | dict[str, Single]
    calculate_output: str = Field(max_length=2000)
    pass_threshold: float | None = None

    @property
    def by_name(self) -> Mapping[str, "Criterion"]:
        match self.graders:
            case dict():
                return dict(self.graders)
            case tuple():
                return {grader.name: grader for grader in self.graders}
            case grader:
                return {grader.name: grader}


Criterion = Annotated[StringCheck | TextSimilarity | PythonCode | ScoreModel | LabelModel | Multi, Field(discriminator="type")]


def models_of(criterion: Criterion) -> frozenset[str]:
    """The models that have to answer for it to judge."""
    match criterion:
        case ScoreModel() | LabelModel():
            return frozenset({criterion.model})
        case Multi():
            return frozenset(model for grader in criterion.by_name.values() for model in models_of(grader))
        case _:
            return frozenset()

"""What an evaluation is made of and where a run of it takes its items from, as OpenAI's Evals API has them."""
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, ConfigDict, Field

from feinschliff.core.chat import Wire
from feinschliff.core.criteria import Say

MetaKey = Annotated[str, Field(max_length=64)]
Kind = Literal["custom", "logs", "stored_completions"]
"""Where an evaluation's items come from in the hosted service. Here they come with each run."""
Metadata = Annotated[dict[MetaKey, Annotated[str, Field(max_length=512)]], Field(max_length=16)]


class Line(Wire):
    """One item, and what a model made of it where that is known already."""

    item: dict[str, Any]
    sample: dict[str, Any] | None = None


class FileContent(Wire):
    type: Literal["file_content"]
    content: tuple[Line, ...] = Field(min_length=1)


class FileId(Wire):
    type: Literal["file_id"]
    id: str


class Elsewhere(Wire):
    """Answers that the hosted service has kept: read, whatever they were chosen by, so that it can be said that there are none here."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    type: Literal["stored_completions", "responses"]


Source = Annotated[FileContent | FileId | Elsewhere, Field(discriminator="type")]


class Template(Wire):
    """The same messages for every item, filled in with it. A message may be a reference to messages in the item."""

    type: Literal["template"]
    template: tuple[Say, ...] = Field(min_length=1)


class ItemReference(Wire):
    """The item itself holds the messages: `item.messages`."""

    type: Literal["item_reference"]
    item_reference: str


class JsonSchema(Wire):
    name: str
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class Format(Wire):
    """Of chat completions, which nest the schema, and of responses, which do not."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class TextFormat(Wire):
    format: Format | None = None


class Sampling(Wire):
    """`reasoning_effort` is taken and changes nothing."""

    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int = 42
    max_completion_tokens: int | None = Field(None, ge=1, validation_alias=AliasChoices("max_completion_tokens", "max_completions_tokens"))
    response_format: Format | None = None
    text: TextFormat | None = None
    tools: tuple[dict[str, Any], ...] | None = None
    reasoning_effort: str | None = None

    @property
    def format(self) -> Format | None:
        if self.response_format is not None or self.text is None:
            return self.response_format
        return self.text.format


class Jsonl(Wire):
    """Items that are graded as they are, with the samples that they bring."""

    type: Literal["jsonl"]
    source: Source


class Asking(Wire):
    """A model, or a deployment, is asked about every item. `completions` and `responses` differ in words only."""

    type: Literal["completions", "responses"]
    source: Source
    model: str
    input_messages: Annotated[Template | ItemReference, Field(discriminator="type")]
    sampling_params: Sampling = Sampling()


DataSource = Annotated[Jsonl | Asking, Field(discriminator="type")]

"""What is said to an answering program and what it says back: one JSON object a line, in over stdin, out over stdout."""
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from feinschliff.core.chat import Conversation, Wire


class Sampling(Wire):
    """`temperature` 0 is greedy. With a seed, the same batch gives the same answers."""

    max_tokens: int = Field(160, ge=1)
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int = 0


class Generate(Wire):
    """Answer a batch. `adapter` is a PEFT folder, or None for the bare base model; `slots` conversations decode together."""

    kind: Literal["generate"] = "generate"
    id: int
    conversations: tuple[Conversation, ...]
    adapter: str | None = None
    sampling: Sampling = Sampling()
    slots: int = Field(32, ge=1)


class Embed(Wire):
    kind: Literal["embed"] = "embed"
    id: int
    texts: tuple[str, ...]


Request = Annotated[Generate | Embed, Field(discriminator="kind")]


class Ready(Wire):
    kind: Literal["ready"] = "ready"


class Progress(Wire):
    kind: Literal["progress"] = "progress"
    id: int
    done: int


class ReplyLine(Wire):
    text: str
    input_tokens: int
    output_tokens: int
    finish_reason: Literal["stop", "length"]


class Replies(Wire):
    kind: Literal["replies"] = "replies"
    id: int
    replies: tuple[ReplyLine, ...]
    seconds: float


class Vectors(Wire):
    kind: Literal["vectors"] = "vectors"
    id: int
    vectors: tuple[tuple[float, ...], ...]


class Refused(Wire):
    """The request could not be carried out; the program lives on. `id` 0: it could not start at all."""

    kind: Literal["refused"] = "refused"
    id: int
    code: str
    message: str
    hint: str = ""


Response = Annotated[Ready | Progress | Replies | Vectors | Refused, Field(discriminator="kind")]
REQUEST: TypeAdapter[Request] = TypeAdapter(Request)
RESPONSE: TypeAdapter[Response] = TypeAdapter(Response)

"""What is said to vLLM's OpenAI server and what it says back, as far as it is used. vLLM's own fields are from its 0.32 (docs/serving.md)."""
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from feinschliff.core.chat import Wire


class Structured(Wire):
    """vLLM's structured outputs: the answer is held to this JSON schema."""

    schema_: dict[str, Any] = Field(serialization_alias="json")


class StreamOptions(Wire):
    include_usage: bool = True


class Completion(Wire):
    """`POST /v1/completions`. Tokens go in and come back as ids; texts, stops included, are made of them here."""

    model: str
    prompt: tuple[int, ...]
    max_tokens: int
    n: int
    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]
    stop_token_ids: tuple[int, ...]
    ignore_eos: bool
    skip_special_tokens: bool
    frequency_penalty: float
    presence_penalty: float
    logit_bias: dict[int, float] | None
    logprobs: int | None
    echo: bool
    structured_outputs: Structured | None
    stream: bool = True
    stream_options: StreamOptions = StreamOptions()
    return_token_ids: bool = True
    return_tokens_as_token_ids: bool = True  # in log-probabilities: "token_id:17"


class Heard(BaseModel):
    """Frozen; what is not known here is ignored, as versions differ."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Logprobs(Heard):
    """Parallel lists. An echoed prompt's tokens come first; its very first has neither."""

    tokens: tuple[str, ...]
    token_logprobs: tuple[float | None, ...]
    top_logprobs: tuple[dict[str, float] | None, ...]


class Choice(Heard):
    """More of one choice. `token_ids` are those of the answer only, also where the prompt is echoed."""

    index: int
    token_ids: tuple[int, ...] | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class PromptDetails(Heard):
    cached_tokens: int | None = None


class Usage(Heard):
    prompt_tokens_details: PromptDetails | None = None

    @property
    def cached_tokens(self) -> int:
        details = self.prompt_tokens_details
        return 0 if details is None else details.cached_tokens or 0


class Failure(Heard):
    message: str
    code: int | None = None


class Chunk(Heard):
    """A server-sent event of a stream, or the body of a refusal."""

    choices: tuple[Choice, ...] = ()
    usage: Usage | None = None
    error: Failure | None = None


class Model(Heard):
    id: str
    max_model_len: int | None = None


class Models(Heard):
    """`GET /v1/models`."""

    data: tuple[Model, ...]


def token_of(name: str) -> int:
    """From "token_id:17"."""
    return int(name.removeprefix("token_id:"))

"""What is said to a live engine and what it says back: one JSON object a line, many requests at a time.

Requests are named by the asker; every event carries the name of the request that it belongs to. A request ends with
`Completed` or `Declined`, after which its name is not heard of again.
"""
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from feinschliff.core.chat import Conversation, Wire

FinishReason = Literal["stop", "length", "tool_calls"]  # the last is not the engine's, but of who reads its answers


class Limits(Wire):
    """Bounds of an engine: sequences computed together, sequences waiting, memory in bytes, adapters kept ready."""

    slots: int = Field(32, ge=1)
    waiting: int = Field(128, ge=0)
    slots_bytes: int = Field(2 << 30, ge=0)
    cache_bytes: int = Field(1 << 30, ge=0)
    adapters: int = Field(32, ge=1)


class ChatPrompt(Wire):
    """Rendered by the model's own template, exactly as for training. `begun` is text that the answer has to begin with."""

    kind: Literal["chat"] = "chat"
    messages: Conversation
    tools: tuple[dict[str, Any], ...] | None = None
    begun: str = ""


class TextPrompt(Wire):
    """Any text, tokenised with the special tokens that the tokenizer adds by itself."""

    kind: Literal["text"] = "text"
    text: str


class TokenPrompt(Wire):
    """Token ids as they are."""

    kind: Literal["tokens"] = "tokens"
    tokens: tuple[int, ...]


Prompt = Annotated[ChatPrompt | TextPrompt | TokenPrompt, Field(discriminator="kind")]


class JsonFormat(Wire):
    """The answer is held to JSON: any object, or what `schema_` describes (draft 2020-12, as far as the grammar library goes)."""

    schema_: dict[str, Any] = Field(default_factory=lambda: {"type": "object"}, alias="schema")


class LiveSampling(Wire):
    """How tokens are chosen. `temperature` 0 is greedy; `max_tokens` None goes on to the end of the model's context.

    `logprobs` is the number of alternatives told beside each token, None for no log-probabilities at all. They are those of
    the model, before temperature, penalties and grammar.
    """

    max_tokens: int | None = Field(None, ge=0)
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[int, float] = Field(default_factory=dict)
    logprobs: int | None = Field(None, ge=0, le=20)
    ignore_end: bool = False  # go on past the model's stop tokens


class Submit(Wire):
    """Answer one prompt, `n` times. `adapter` is a PEFT folder, or None for the base model.

    `echo` also tells the prompt's own tokens, with log-probabilities where the sampling asks for them. `markup` keeps special
    tokens in the text, for answers with tool calls.
    """

    kind: Literal["submit"] = "submit"
    id: str
    prompt: Prompt
    adapter: str | None = None
    sampling: LiveSampling = LiveSampling()
    n: int = Field(1, ge=1, le=128)
    format: JsonFormat | None = None
    echo: bool = False
    markup: bool = False


class Cancel(Wire):
    """Stop working on a request; nothing more is said about it, `Completed` included. Unknown names are ignored."""

    kind: Literal["cancel"] = "cancel"
    id: str


class AskStats(Wire):
    kind: Literal["stats"] = "stats"
    id: str


LiveRequest = Annotated[Submit | Cancel | AskStats, Field(discriminator="kind")]


class LiveReady(Wire):
    """The model is loaded. `max_tokens` is its context length."""

    kind: Literal["ready"] = "ready"
    max_tokens: int
    lean: bool  # our own forward pass, not transformers'
    weights_bytes: int


class TokenText(Wire):
    """One token. `raw` are its bytes: a token may be a part of a character, whose `text` then cannot show it."""

    token: int
    text: str
    raw: tuple[int, ...]
    logprob: float | None  # None for the first token of an echoed prompt, which nothing predicts


class ScoredToken(TokenText):
    """A token of an answer (or an echoed prompt) with the likeliest ones in its place, best first, itself always among them."""

    top: tuple[TokenText, ...] = ()


class Piece(Wire):
    """More of choice `index`: text, and the tokens since the last piece where log-probabilities are asked for."""

    kind: Literal["piece"] = "piece"
    id: str
    index: int
    text: str
    tokens: tuple[ScoredToken, ...] = ()


class Ended(Wire):
    """Choice `index` is complete."""

    kind: Literal["ended"] = "ended"
    id: str
    index: int
    finish_reason: FinishReason


class Completed(Wire):
    """All choices are. `prompt_tokens` counts the prompt once, `cached_tokens` what of it was known from earlier requests."""

    kind: Literal["completed"] = "completed"
    id: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    seconds: float


class Declined(Wire):
    """The request cannot be answered. `retry_after_s` is set where it could be later: the queue is full."""

    kind: Literal["declined"] = "declined"
    id: str  # "" where the program itself cannot go on, or the line could not be read
    code: str
    message: str
    hint: str = ""
    retry_after_s: float | None = None


class Stats(Wire):
    """The engine's state; counters are since its start."""

    kind: Literal["stats"] = "stats"
    id: str
    active: int
    waiting: int
    adapters: int
    cache_bytes: int
    slots_bytes: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    steps: int


LiveEvent = Annotated[LiveReady | Piece | Ended | Completed | Declined | Stats, Field(discriminator="kind")]
LIVE_REQUEST: TypeAdapter[LiveRequest] = TypeAdapter(LiveRequest)
LIVE_EVENT: TypeAdapter[LiveEvent] = TypeAdapter(LiveEvent)

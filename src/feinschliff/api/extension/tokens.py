"""/tokenize and /detokenize, in the form that vLLM gave them."""
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from feinschliff.api.access import Reader, ServiceOf
from feinschliff.api.openai.chat import MessageIn
from feinschliff.api.openai.tools import ToolIn
from feinschliff.api.wire import Body, Shown
from feinschliff.app import tokens as use
from feinschliff.app.answering import answering
from feinschliff.core.live import ChatPrompt
from feinschliff.core.service_errors import RequestError

router = APIRouter(tags=["tokens"])


class TokenizeIn(Body):
    """A text or a chat. `add_special_tokens` is for texts, true unless said otherwise: a template writes its own ones."""

    model: str = Field(examples=["smollm2-135m-instruct"])
    prompt: str | None = Field(None, examples=["Good morning"])
    messages: Annotated[list[MessageIn], Field(min_length=1)] | None = None
    tools: list[ToolIn] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = True
    return_token_strs: bool | None = None


class TokenizeOut(Shown):
    count: int
    max_model_len: int | None  # null where the model does not say
    tokens: list[int]
    token_strs: list[str] | None


class DetokenizeIn(Body):
    model: str = Field(examples=["smollm2-135m-instruct"])
    tokens: list[int] = Field(examples=[[12233, 5113]])


class DetokenizeOut(Shown):
    prompt: str


@router.post("/tokenize")
def tokenize(body: TokenizeIn, service: ServiceOf, caller: Reader) -> TokenizeOut:
    """The tokens that a model would be given for a text or a chat."""
    if (body.prompt is None) == (body.messages is None):
        raise RequestError("Give either a prompt or messages.", param="prompt")
    if body.messages is not None and body.add_special_tokens:
        raise RequestError("A chat's special tokens are those of its template.", param="add_special_tokens")
    model = answering(service, caller, body.model)
    if body.messages is None:
        tokens = use.tokens_of_text(model, body.prompt or "", special=body.add_special_tokens is not False)
    else:
        shown: tuple[dict[str, Any], ...] | None = tuple(t.given for t in body.tools) if body.tools else None
        prompt = ChatPrompt(messages=tuple(m.message() for m in body.messages), tools=shown)
        tokens = use.tokens_of_chat(model, prompt, answer_next=body.add_generation_prompt)
    renderer = use.renderer_of(model.base)
    texts = renderer.token_texts(tokens) if body.return_token_strs else None
    return TokenizeOut(count=len(tokens), max_model_len=renderer.max_tokens, tokens=tokens, token_strs=texts)


@router.post("/detokenize")
def detokenize(body: DetokenizeIn, service: ServiceOf, caller: Reader) -> DetokenizeOut:
    """The text of tokens, special ones included."""
    return DetokenizeOut(prompt=use.text_of(answering(service, caller, body.model), body.tokens))

"""Tokens as a model counts them, without loading the model."""
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from feinschliff.app.answering import Answering
from feinschliff.core.live import ChatPrompt
from feinschliff.core.service_errors import RequestError
from feinschliff.data.render import Renderer


@lru_cache(maxsize=8)
def renderer_of(folder: Path) -> Renderer:
    """A tokenizer takes tens of megabytes and up to a second to load."""
    return Renderer.of(folder)


def tokens_of_text(model: Answering, text: str, *, special: bool) -> list[int]:
    """`special` adds what the tokenizer adds by itself, as for text completions."""
    return renderer_of(model.base).encode_text(text, special=special)


def tokens_of_chat(model: Answering, prompt: ChatPrompt, *, answer_next: bool) -> list[int]:
    """The same tokens that the engine is given, and that training examples begin with."""
    return renderer_of(model.base).prompt_tokens(prompt.messages, prompt.tools, answer_next=answer_next)


def text_of(model: Answering, tokens: Sequence[int]) -> str:
    """Special tokens included. Raises RequestError for ids that no tokenizer has."""
    if any(not 0 <= t < 1 << 32 for t in tokens):
        raise RequestError("A token id is negative or too large.", param="tokens")
    return renderer_of(model.base).decode(tokens, special=True)

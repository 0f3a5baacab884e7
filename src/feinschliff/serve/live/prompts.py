"""Prompts as token ids, the same for every engine that answers with a model."""
from dataclasses import dataclass
from typing import assert_never

from feinschliff.core.errors import BadData, ContextExceeded
from feinschliff.core.live import ChatPrompt, Prompt, Submit, TextPrompt, TokenPrompt
from feinschliff.data.render import Renderer
from feinschliff.serve.live.vocabulary import Vocabulary

NO_LIMIT = 1 << 20  # tokens; for models that name no context length


@dataclass(frozen=True, slots=True)
class Prompts:
    """Of one model. `n_vocab` is how many tokens it has, `max_tokens` its context."""

    renderer: Renderer
    vocabulary: Vocabulary
    n_vocab: int
    max_tokens: int

    def admit(self, request: Submit) -> tuple[list[int], int]:
        """The prompt's tokens, and how many may follow them. Raises BadData, ContextExceeded."""
        tokens = self.tokens(request.prompt)
        room = self.max_tokens - len(tokens)
        limit = room if request.sampling.max_tokens is None else request.sampling.max_tokens
        if room < limit or room < 1:
            raise ContextExceeded(
                f"The prompt has {len(tokens)} tokens; with an answer of {max(1, limit)} it exceeds the model's {self.max_tokens}.",
                hint="Shorten the prompt or lower max_tokens.",
            )
        return tokens, limit

    def tokens(self, prompt: Prompt) -> list[int]:
        """At least one. Raises BadData."""
        match prompt:
            case ChatPrompt():
                tokens = self.renderer.prompt_tokens(prompt.messages, prompt.tools)
                return tokens + self.vocabulary.encode_plain(prompt.begun) if prompt.begun else tokens
            case TextPrompt():
                tokens = self.vocabulary.encode(prompt.text)
                return tokens or [min(self.renderer.stop_ids)]  # the model has to begin with something
            case TokenPrompt():
                if not prompt.tokens or not all(0 <= t < self.n_vocab for t in prompt.tokens):
                    raise BadData("The prompt is empty or holds a token that the model does not have.", hint=f"Ids are 0 to {self.n_vocab - 1}.")
                return list(prompt.tokens)
            case _:
                assert_never(prompt)

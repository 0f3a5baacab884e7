"""One answer on its way: a request with n choices becomes n sequences."""
from dataclasses import dataclass, field
from time import monotonic

import torch

from feinschliff.core.live import FinishReason, Submit
from feinschliff.serve.live.adapters import LiveAdapter
from feinschliff.serve.live.grammar import Grammar
from feinschliff.serve.live.prefix_cache import Block
from feinschliff.serve.live.sampling import Choice, Scores
from feinschliff.serve.live.text import Outgoing


@dataclass(slots=True, eq=False)
class Job:
    """A request and what has been done for it."""

    request: Submit
    n_prompt: int
    adapter: LiveAdapter | None
    left: int  # choices that are not complete
    started: float = field(default_factory=monotonic)
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(slots=True, eq=False)
class Sequence:
    """`tokens` are prompt and answer; the first `computed` of them have keys and values in `slot`."""

    job: Job
    index: int
    tokens: list[int]
    limit: int  # tokens, prompt included
    outgoing: Outgoing
    generator: torch.Generator
    grammar: Grammar | None = None
    slot: int | None = None
    computed: int = 0
    path: list[Block] = field(default_factory=list)  # of the prefix cache: what is known of this conversation there
    echoed: int = 0  # prompt tokens whose log-probabilities are known
    echo_scores: list[Scores] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    @property
    def pending(self) -> int:
        """Tokens that have to be read before the next one can be chosen."""
        return len(self.tokens) - self.computed

    @property
    def family(self) -> tuple[str, int] | None:
        """Whose keys and values it can share: those of the same weights."""
        adapter = self.job.adapter
        return None if adapter is None else (adapter.folder, adapter.version)

    @property
    def wants_echo_scores(self) -> bool:
        return self.job.request.echo and self.job.request.sampling.logprobs is not None and self.index == 0

    def choice(self) -> Choice:
        hidden = None if self.grammar is None else self.grammar.hidden()
        return Choice(self.job.request.sampling, self.generator, self.tokens[self.job.n_prompt :], hidden)

"""One choice of an answer that vLLM makes: its tokens become text here, by the same rules as in our own engine."""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from feinschliff.core.errors import ProgramFailed
from feinschliff.core.live import Ended, FinishReason, Piece, ScoredToken, Submit
from feinschliff.serve.live.text import Outgoing
from feinschliff.serve.live.vocabulary import Vocabulary
from feinschliff.serve.vllm import wire


@dataclass(slots=True)
class Choice:
    """`made` counts the answer's tokens, without the stop token that ended it."""

    request: Submit
    index: int
    prompt: Sequence[int]
    vocabulary: Vocabulary
    stop_ids: frozenset[int]
    made: int = 0
    ended: bool = False
    _echoed: bool = False
    _outgoing: Outgoing = field(init=False)

    def __post_init__(self) -> None:
        self._outgoing = Outgoing(self.vocabulary.stream(markup=self.request.markup), self.request.sampling.stop)

    def take(self, more: wire.Choice) -> Iterator[Piece | Ended]:
        """What there is to tell of it. After the end, nothing is. Raises ProgramFailed where vLLM gave the answer up."""
        if self.ended:
            return
        told = _scored(more.logprobs, self.request.sampling.logprobs or 0, self.vocabulary)
        if self.request.echo and not self._echoed:
            n_prompt = len(self.prompt) if told else 0
            yield self._echo(told[:n_prompt])
            told = told[n_prompt:]
        if self.request.sampling.max_tokens == 0:  # vLLM makes one token all the same
            yield self._end("length")
            return
        yield from self._go_on(more, told)

    def nothing(self) -> Iterator[Piece | Ended]:
        """Where no tokens are wanted and vLLM need not be asked."""
        if self.request.echo:
            yield self._echo(())
        yield self._end("length")

    def _echo(self, told: tuple[ScoredToken, ...]) -> Piece:
        self._echoed = True
        return Piece(id=self.request.id, index=self.index, text=self.vocabulary.decode(self.prompt, markup=True), tokens=told)

    def _go_on(self, more: wire.Choice, told: tuple[ScoredToken, ...]) -> Iterator[Piece | Ended]:
        text, scored, reason = "", list[ScoredToken](), _reason(more)
        tokens = more.token_ids or ()
        for token, score in zip(tokens, told or [None] * len(tokens), strict=True):
            if token in self.stop_ids and not self.request.sampling.ignore_end:
                reason = "stop"
                break
            self.made += 1
            text += self._outgoing.push(token)
            if score is not None:
                scored.append(score)
            if self._outgoing.stopped:
                break
        if reason and not self._outgoing.stopped:
            text += self._outgoing.finish()
        if self._outgoing.stopped:
            reason = "stop"
        if text or scored:
            yield Piece(id=self.request.id, index=self.index, text=text, tokens=tuple(scored))
        if reason:
            yield self._end(reason)

    def _end(self, reason: FinishReason) -> Ended:
        self.ended = True
        return Ended(id=self.request.id, index=self.index, finish_reason=reason)


def _reason(more: wire.Choice) -> FinishReason | None:
    match more.finish_reason:
        case None | "stop" | "length" as known:
            return known
        case other:
            raise ProgramFailed(f"vLLM ended an answer with {other!r}.", hint="Ask again; its log says why.")


def _scored(found: wire.Logprobs | None, n_top: int, vocabulary: Vocabulary) -> tuple[ScoredToken, ...]:
    """vLLM names the token itself first and then the `n_top` likeliest; here they are in order, the token itself among them."""
    if found is None:
        return ()
    scored = list[ScoredToken]()
    for name, logprob, others in zip(found.tokens, found.token_logprobs, found.top_logprobs, strict=True):
        token = wire.token_of(name)
        best = sorted(((wire.token_of(n), p) for n, p in (others or {}).items()), key=lambda found: -found[1])
        top = best[:n_top]
        if top and logprob is not None and token not in dict(top):
            top.append((token, logprob))
        scored.append(ScoredToken(**vocabulary.told(token, logprob).model_dump(), top=tuple(vocabulary.told(t, p) for t, p in top)))
    return tuple(scored)

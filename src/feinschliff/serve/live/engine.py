"""The live engine: requests in at any time, one forward pass for all of them after the other, pieces of answers out."""
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import torch
from torch import Tensor

from feinschliff.core.errors import BadData, FeinschliffError, Overloaded
from feinschliff.core.live import (
    Completed,
    Declined,
    Ended,
    Limits,
    LiveEvent,
    LiveReady,
    Piece,
    ScoredToken,
    Stats,
    Submit,
)  # fmt: skip
from feinschliff.data.render import Renderer
from feinschliff.nn.model import fast_dtype
from feinschliff.serve.live.attend import StepAttend
from feinschliff.serve.live.forward import open_model
from feinschliff.serve.live.grammar import Grammars
from feinschliff.serve.live.kv import Slots
from feinschliff.serve.live.prefix_cache import PrefixCache
from feinschliff.serve.live.prompts import NO_LIMIT, Prompts
from feinschliff.serve.live.sampling import Scores, choose, scores
from feinschliff.serve.live.scheduler import Scheduler, Step
from feinschliff.serve.live.sequence import Job, Sequence
from feinschliff.serve.live.text import Outgoing
from feinschliff.serve.live.vocabulary import Vocabulary

ECHO_ROWS = 128  # rows of logits at once for a prompt's own log-probabilities


class LiveEngine:
    """One base model. Call `step` as long as it returns True; whatever there is to tell goes to `say`."""

    def __init__(
        self, folder: Path, say: Callable[[LiveEvent], None], *, limits: Limits | None = None, dtype: torch.dtype | None = None
    ) -> None:
        limits = limits or Limits()
        self._say = say
        self._renderer = Renderer.of(folder)
        self._vocabulary = Vocabulary(folder)
        opened = open_model(folder, dtype or fast_dtype(), limits.adapters)
        self._opened, self._forward, self._head = opened, opened.forward, opened.head
        self._prompts = Prompts(self._renderer, self._vocabulary, opened.n_vocab, self.max_tokens)
        self._adapters, self.lean, self.native = opened.adapters, opened.lean, opened.native
        self._slots = Slots(opened.shape)
        self._cache = PrefixCache(limits.cache_bytes)
        self._scheduler = Scheduler(self._slots, self._cache, limits)
        self._grammars = Grammars(self._vocabulary.file, opened.n_vocab, self._renderer.stop_ids)
        self._jobs: dict[str, list[Sequence]] = {}
        self._limits = limits
        self._counts = {"prompt": 0, "cached": 0, "completion": 0, "steps": 0}
        self._pace_s = 1.0  # a choice's usual time from its start to its end

    @property
    def max_tokens(self) -> int:
        """The model's context."""
        return self._renderer.max_tokens or NO_LIMIT

    def ready(self) -> LiveReady:
        return LiveReady(max_tokens=self.max_tokens, lean=self.lean, weights_bytes=self._opened.weights_bytes)

    def submit(self, request: Submit) -> None:
        """Take a request, or decline it."""
        try:
            sequences = self._sequences(request)
            self._scheduler.enqueue(sequences)
        except FeinschliffError as error:
            self._decline(request.id, error)
            return
        self._jobs[request.id] = sequences
        self._counts["prompt"] += sequences[0].job.n_prompt

    def cancel(self, request_id: str) -> None:
        for sequence in self._jobs.pop(request_id, ()):
            if sequence.finish_reason is None:
                self._scheduler.release(sequence)

    def stats(self, request_id: str) -> Stats:
        return Stats(
            id=request_id, active=len(self._scheduler.active), waiting=len(self._scheduler.waiting),
            adapters=len(self._adapters), cache_bytes=self._cache.n_bytes, slots_bytes=self._slots.n_bytes,
            prompt_tokens=self._counts["prompt"], cached_tokens=self._counts["cached"],
            completion_tokens=self._counts["completion"], steps=self._counts["steps"],
        )  # fmt: skip

    def rest(self) -> None:
        """Give memory back that only answering needs; what is cached stays."""
        self._slots.clear()

    @torch.inference_mode()
    def step(self) -> bool:
        """One forward pass for whoever is there; False when nothing is left to do."""
        step = self._scheduler.next_step()
        if step is None:
            return False
        self._counts["steps"] += 1
        hidden_TD = self._run(step)
        self._scheduler.computed(step)
        ends = torch.tensor([p.n for p in step.parts]).cumsum(0) - 1
        self._echo(step, hidden_TD, ends.tolist())
        ready = [(s, row) for s, row in zip(step.sequences, ends.tolist(), strict=True) if s.pending == 0]
        if ready:
            self._advance([s for s, _ in ready], self._logits(hidden_TD[[row for _, row in ready]]))
        return True

    def _run(self, step: Step) -> Tensor:
        self._adapters.use([s.job.adapter for p, s in zip(step.parts, step.sequences, strict=True) for _ in range(p.n)])
        pairs = list(zip(step.parts, step.sequences, strict=True))
        tokens_T = torch.tensor([t for p, s in pairs for t in s.tokens[p.start : p.start + p.n]])
        positions_T = torch.cat([torch.arange(p.start, p.start + p.n) for p in step.parts])
        return self._forward(tokens_T, positions_T, StepAttend(self._slots, step.parts, step.shared))

    def _logits(self, hidden_RD: Tensor) -> Tensor:
        logits_RV = self._head(hidden_RD.to(self._opened.dtype)).float()
        softcap = self._opened.softcap
        return logits_RV if softcap is None else softcap * torch.tanh(logits_RV / softcap)

    def _advance(self, sequences: list[Sequence], logits_RV: Tensor) -> None:
        """Choose each one's next token, tell what can be told, and end those that are complete."""
        chosen = choose(logits_RV, [s.choice() for s in sequences])
        for row, (sequence, token) in enumerate(zip(sequences, chosen, strict=True)):
            if len(sequence.tokens) >= sequence.limit:  # nothing was to be generated
                self._end(sequence, "length", "")
                continue
            n_top = sequence.job.request.sampling.logprobs
            if token in self._renderer.stop_ids and not sequence.job.request.sampling.ignore_end:
                self._end(sequence, "stop", sequence.outgoing.finish())
                continue
            sequence.tokens.append(token)
            sequence.job.completion_tokens += 1
            self._counts["completion"] += 1
            text = sequence.outgoing.push(token)
            found = () if n_top is None else (self._told(scores(logits_RV[row : row + 1], [token], n_top)[0]),)
            self._progress(sequence, token, text, found)

    def _progress(self, sequence: Sequence, token: int, text: str, found: tuple[ScoredToken, ...]) -> None:
        grammar_done = False
        if sequence.grammar is not None:
            sequence.grammar.push(token)
            grammar_done = sequence.grammar.complete
        stopped = sequence.outgoing.stopped or grammar_done
        full = len(sequence.tokens) >= sequence.limit
        if (stopped or full) and not sequence.outgoing.stopped:
            text += sequence.outgoing.finish()
            stopped = stopped or sequence.outgoing.stopped
        if text or found:
            self._say(Piece(id=sequence.job.request.id, index=sequence.index, text=text, tokens=found))
        if stopped or full:
            self._end(sequence, "stop" if stopped else "length", "")

    def _end(self, sequence: Sequence, reason: str, text: str) -> None:
        job = sequence.job
        if text:
            self._say(Piece(id=job.request.id, index=sequence.index, text=text))
        sequence.finish_reason = "stop" if reason == "stop" else "length"
        self._scheduler.release(sequence)
        self._say(Ended(id=job.request.id, index=sequence.index, finish_reason=sequence.finish_reason))
        job.left -= 1
        if job.left:
            return
        seconds = monotonic() - job.started
        self._pace_s += 0.1 * (seconds - self._pace_s)
        self._counts["cached"] += job.cached_tokens
        del self._jobs[job.request.id]
        self._say(
            Completed(
                id=job.request.id, prompt_tokens=job.n_prompt, completion_tokens=job.completion_tokens,
                cached_tokens=job.cached_tokens, seconds=seconds,
            )
        )  # fmt: skip

    def _echo(self, step: Step, hidden_TD: Tensor, ends: list[int]) -> None:
        """The prompt's own tokens, for those who asked: row t of the states says how likely token t + 1 was."""
        for part, sequence, end in zip(step.parts, step.sequences, ends, strict=True):
            request = sequence.job.request
            if not request.echo or sequence.index or sequence.echoed >= sequence.job.n_prompt:
                continue
            if sequence.wants_echo_scores:
                start = end + 1 - part.n
                self._score_prompt(sequence, part.start, hidden_TD[start : end + 1], request.sampling.logprobs or 0)
            if sequence.pending == 0:
                self._tell_prompt(sequence)

    def _score_prompt(self, sequence: Sequence, start: int, hidden_nD: Tensor, n_top: int) -> None:
        first = len(sequence.echo_scores)  # a conversation sent back to the queue is not scored twice
        last = min(start + hidden_nD.shape[0], sequence.job.n_prompt - 1)
        for at in range(max(first, start), last, ECHO_ROWS):
            end = min(at + ECHO_ROWS, last)
            logits_RV = self._logits(hidden_nD[at - start : end - start])
            sequence.echo_scores += scores(logits_RV, sequence.tokens[at + 1 : end + 1], n_top)

    def _tell_prompt(self, sequence: Sequence) -> None:
        n_prompt = sequence.job.n_prompt
        prompt = sequence.tokens[:n_prompt]
        sequence.echoed = n_prompt
        told: tuple[ScoredToken, ...] = ()
        if sequence.wants_echo_scores:
            first = ScoredToken(**self._vocabulary.told(prompt[0], None).model_dump())
            told = (first, *(self._told(s) for s in sequence.echo_scores))
        text = self._vocabulary.decode(prompt, markup=True)
        for index in range(sequence.job.request.n):
            self._say(Piece(id=sequence.job.request.id, index=index, text=text, tokens=told))

    def _told(self, found: Scores) -> ScoredToken:
        top = tuple(self._vocabulary.told(token, logprob) for token, logprob in found.top)
        return ScoredToken(**self._vocabulary.told(found.token, found.logprob).model_dump(), top=top)

    def _sequences(self, request: Submit) -> list[Sequence]:
        """A request's choices. Raises BadData, ModelUnavailable."""
        if request.id in self._jobs:
            raise BadData(f"A request named {request.id} is being answered already.", hint="Use another name.")
        tokens, limit = self._prompts.admit(request)
        adapter = self._adapters.get(request.adapter) if request.adapter else None
        job = Job(request, len(tokens), adapter, left=request.n)
        return [self._sequence(job, index, tokens, len(tokens) + limit) for index in range(request.n)]

    def _sequence(self, job: Job, index: int, tokens: list[int], limit: int) -> Sequence:
        request = job.request
        generator = torch.Generator()
        if request.sampling.seed is None:
            generator.seed()
        else:
            generator.manual_seed(request.sampling.seed + index)
        grammar = self._grammars.of(request.format) if request.format else None
        outgoing = Outgoing(self._vocabulary.stream(markup=request.markup), request.sampling.stop)
        return Sequence(job, index, list(tokens), limit, outgoing, generator, grammar)

    def _decline(self, request_id: str, error: FeinschliffError) -> None:
        retry_after_s = None
        if isinstance(error, Overloaded):
            retry_after_s = max(1.0, self._pace_s * len(self._scheduler.waiting) / self._limits.slots)
        self._say(
            Declined(id=request_id, code=error.code, message=error.message, hint=error.hint, retry_after_s=retry_after_s)
        )

"""The engine: token ids in, token ids out; schedule → run → collect. It knows nothing of text, chats or adapters.

A batch is answered by continuous batching: up to `slots` conversations decode together, and whoever finishes makes room
for the next. What all prompts begin with is read once; prompts admitted together are read as a prefix tree.
Scheduling depends on the batch alone, so the same batch gives the same answers.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from feinschliff.core.chat import Rendered
from feinschliff.core.engine import Sampling
from feinschliff.nn.model import Decoder
from feinschliff.nn.tree import pack
from feinschliff.serve.cache import Decode, Prefill, Prefix, Slots

MIN_PREFIX = 16  # tokens; a shorter common beginning is not worth a cache of its own
PREFILL_TOKENS = 4096  # read in one forward pass


@dataclass(slots=True)
class Generation:
    """One conversation on its way: `tokens` are the answer so far."""

    index: int
    prompt: Sequence[int]
    tokens: list[int] = field(default_factory=list)
    finish_reason: Literal["stop", "length"] | None = None
    generator: torch.Generator = field(default_factory=torch.Generator)


@torch.inference_mode()
def generate(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    stop_ids: frozenset[int],
    slots: int = 32,
    window: int | None = None,
    on_finished: Callable[[int], None] = lambda done: None,
) -> list[Generation]:
    """Answers to `prompts`, in their order. `window` is the model's sliding attention window, if it has one.

    `on_finished` is told the number of finished conversations.
    """
    waiting = [Generation(i, p) for i, p in enumerate(prompts)]
    for generation in waiting:
        generation.generator.manual_seed(sampling.seed * 1_000_003 + generation.index)
    waiting.sort(key=lambda g: tuple(g.prompt), reverse=True)  # popped from the end; neighbours share prefixes
    longest = max((len(p) for p in prompts), default=0) + sampling.max_tokens
    batch = _Batch(decoder, _read_prefix(decoder, prompts, share=window is None or longest <= window), slots)
    finished: list[Generation] = []
    refill = max(1, slots // 4)  # reading prompts one by one as slots come free would halve the speed
    while waiting or batch.active:
        if waiting and batch.n_free >= min(len(waiting), refill):
            batch.admit(waiting, sampling)
        else:
            batch.decode(sampling)
        done = batch.collect(stop_ids, sampling.max_tokens)
        if done:
            finished += done
            on_finished(len(finished))
    return sorted(finished, key=lambda g: g.index)


class _Batch:
    """The conversations that are being decoded, each in a slot."""

    def __init__(self, decoder: Decoder, prefix: Prefix, n_slots: int) -> None:
        self.decoder, self.prefix = decoder, prefix
        self.slots = Slots(n_slots)
        self.active: dict[int, Generation] = {}
        self._free = list(reversed(range(n_slots)))

    @property
    def n_free(self) -> int:
        return len(self._free)

    def admit(self, waiting: list[Generation], sampling: Sampling) -> None:
        """Move waiting conversations into free slots, read their prompts, and sample each one's first token."""
        P = self.prefix.length
        admitted: list[tuple[int, Generation]] = []
        n_tokens = 0
        while waiting and self._free and (not admitted or n_tokens + len(waiting[-1].prompt) - P <= PREFILL_TOKENS):
            generation = waiting.pop()
            n_tokens += len(generation.prompt) - P
            admitted.append((self._free.pop(), generation))
        own = [list(g.prompt[P:]) for _, g in admitted]
        # A dummy target after the prompt makes the prompt's last token the one row that pack() asks about.
        packed = pack([Rendered([*o, 0], [0.0] * len(o) + [1.0]) for o in own])
        attend = Prefill(packed, self.prefix)
        hidden_TD = self.decoder.hidden(packed.tokens_T, packed.positions_T + P, attend)
        paths = [packed.path(int(row)) for row in packed.rows_R]
        slots_N = torch.tensor([slot for (slot, _), path in zip(admitted, paths, strict=True) for _ in path])
        places_N = torch.tensor([place for path in paths for place in range(len(path))])
        rows_N = torch.tensor([row for path in paths for row in path])
        for layer, (k, v) in enumerate(zip(attend.keys, attend.values, strict=True)):
            self.slots.write(layer, slots_N, places_N, k[rows_N], v[rows_N])
        for (slot, generation), tokens in zip(admitted, own, strict=True):
            self.slots.lengths_S[slot] = len(tokens)
            self.active[slot] = generation
        self._sample([g for _, g in admitted], hidden_TD[packed.rows_R], sampling)

    def decode(self, sampling: Sampling) -> None:
        """One more token for every active conversation."""
        active_A = torch.tensor(list(self.active))
        tokens_A = torch.tensor([g.tokens[-1] for g in self.active.values()])
        positions_A = self.slots.lengths_S[active_A] + self.prefix.length
        hidden_AD = self.decoder.hidden(tokens_A, positions_A, Decode(self.slots, active_A, self.prefix))
        self.slots.lengths_S[active_A] += 1
        self._sample(list(self.active.values()), hidden_AD, sampling)

    def collect(self, stop_ids: frozenset[int], max_tokens: int) -> list[Generation]:
        """Take out the conversations that have just ended; the stop token is not part of the answer."""
        done = []
        for slot, generation in list(self.active.items()):
            if generation.tokens[-1] in stop_ids:
                generation.tokens.pop()
                generation.finish_reason = "stop"
            elif len(generation.tokens) >= max_tokens:
                generation.finish_reason = "length"
            if generation.finish_reason:
                done.append(self.active.pop(slot))
                self._free.append(slot)
        return done

    def _sample(self, generations: Sequence[Generation], hidden_AD: Tensor, sampling: Sampling) -> None:
        logits_AV = self.decoder.logits(hidden_AD)
        if sampling.temperature == 0:
            chosen = logits_AV.argmax(-1).tolist()
        else:
            chosen = [_draw(row, g.generator, sampling) for row, g in zip(logits_AV, generations, strict=True)]
        for generation, token in zip(generations, chosen, strict=True):
            generation.tokens.append(token)


def _draw(logits_V: Tensor, generator: torch.Generator, sampling: Sampling) -> int:
    """Nucleus sampling (Holtzman et al. 2020): from the fewest tokens whose probability reaches top_p."""
    p_V, token_V = (logits_V / sampling.temperature).softmax(-1).sort(descending=True)
    p_V[p_V.cumsum(-1) - p_V >= sampling.top_p] = 0
    return int(token_V[torch.multinomial(p_V, 1, generator=generator)])


def _read_prefix(decoder: Decoder, prompts: Sequence[Sequence[int]], *, share: bool) -> Prefix:
    """Read what all prompts begin with, leaving each at least one token of its own."""
    prefix = Prefix()
    if not share or len(prompts) < 2:
        return prefix
    first, last = min(prompts, key=tuple), max(prompts, key=tuple)
    limit = min(len(first), len(last), min(len(p) for p in prompts) - 1)
    n = next((i for i in range(limit) if first[i] != last[i]), limit)
    if n < MIN_PREFIX:
        return prefix
    packed = pack([Rendered([*first[:n], 0], [0.0] * n + [1.0])])
    attend = Prefill(packed, Prefix())
    decoder.hidden(packed.tokens_T, packed.positions_T, attend)
    prefix.keys = [k.transpose(0, 1)[None].contiguous() for k in attend.keys]
    prefix.values = [v.transpose(0, 1)[None].contiguous() for v in attend.values]
    return prefix

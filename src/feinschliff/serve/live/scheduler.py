"""Who computes next: a bounded queue, slots under a memory budget, prompts read in chunks beside those that decode."""
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from feinschliff.core.errors import Overloaded
from feinschliff.core.live import Limits
from feinschliff.serve.live.attend import Part, Shared
from feinschliff.serve.live.kv import Slots, rounded
from feinschliff.serve.live.prefix_cache import BLOCK, Block, PrefixCache
from feinschliff.serve.live.sequence import Sequence

CHUNK = 256  # tokens of prompts in one step while others decode, so that these do not wait long
LONE_CHUNK = 1024  # while nobody does
# What products for a common beginning cost, in tokens of one conversation's own attention: each group's, and once for all
# (measured: docs/log.md).
SHARE_GROUP, SHARE_ALL = 800, 1600


@dataclass(frozen=True, slots=True)
class Step:
    """Parts of one forward pass, those of one token first, and the sequences they belong to."""

    parts: tuple[Part, ...]
    sequences: tuple[Sequence, ...]
    shared: Shared | None


class Scheduler:
    """Waiting and active sequences, and where their keys and values stand."""

    def __init__(self, slots: Slots, cache: PrefixCache, limits: Limits) -> None:
        self._slots, self._cache, self._limits = slots, cache, limits
        self._tokens_budget = limits.slots_bytes // slots.shape.token_bytes
        self.waiting: deque[Sequence] = deque()
        self.active: list[Sequence] = []
        self._shared: Shared | None = None
        self._shared_for: tuple[tuple[int, int], ...] = ()

    def enqueue(self, sequences: list[Sequence]) -> None:
        """Raises Overloaded."""
        if self.waiting and len(self.waiting) + len(sequences) > self._limits.waiting:
            raise Overloaded(f"{len(self.waiting)} requests are waiting already.")
        self.waiting += sequences

    def next_step(self) -> Step | None:
        """Admit what fits and say what is to be computed; None when nothing is left to do."""
        self._admit()
        if not self.active:
            return None
        self._make_room()
        decoding = [s for s in self.active if s.pending == 1]
        budget = CHUNK if decoding else LONE_CHUNK
        reading: list[tuple[Sequence, int]] = []
        for sequence in self.active:
            if sequence.pending > 1 and budget > 0:
                n = min(sequence.pending, budget)
                if n == 1:
                    break
                reading.append((sequence, n))
                budget -= n
        parts = [Part(_slot(s), s.computed, 1) for s in decoding] + [Part(_slot(s), s.computed, n) for s, n in reading]
        return Step(tuple(parts), (*decoding, *(s for s, _ in reading)), self._share(decoding))

    def computed(self, step: Step) -> None:
        """Take note that a step is done: whole blocks of prompts become known to others."""
        for part, sequence in zip(step.parts, step.sequences, strict=True):
            sequence.computed += part.n
            if part.n > 1:
                self._remember(sequence)

    def release(self, sequence: Sequence) -> None:
        """Free the slot of a sequence that has ended, or forget one that waits."""
        if sequence.slot is None:
            if sequence in self.waiting:
                self.waiting.remove(sequence)
            return
        self._remember(sequence)
        self.active.remove(sequence)
        freed, sequence.slot = sequence.slot, None
        last = max(self.active, key=_slot, default=None)
        if last is not None and _slot(last) > freed:  # slots in use stay dense
            self._slots.move(_slot(last), freed, last.computed)
            last.slot = freed

    def _remember(self, sequence: Sequence) -> None:
        known, whole = len(sequence.path) * BLOCK, sequence.computed // BLOCK * BLOCK
        if whole > known:
            kv = self._slots.read(_slot(sequence), known, whole)
            sequence.path = self._cache.add(sequence.family, sequence.tokens, sequence.path, kv)

    def _admit(self) -> None:
        while self.waiting and len(self.active) < self._limits.slots:
            sequence = next(self._ready(), None)
            if sequence is None:
                return
            need = max(rounded(len(sequence.tokens) + 1), *(rounded(len(s.tokens) + 1) for s in self.active), 0)
            if self.active and need * (len(self.active) + 1) > self._tokens_budget:
                return
            self.waiting.remove(sequence)
            sequence.slot = len(self.active)
            self._slots.fit(sequence.slot + 1, need)
            self.active.append(sequence)
            if not sequence.wants_echo_scores:  # those need every token's state
                self._recall(sequence)

    def _ready(self) -> Iterator[Sequence]:
        """The waiting ones, but for those whose beginning is being read for another one right now."""
        reading = [s for s in self.active if s.pending > 1]
        for sequence in self.waiting:
            if not any(self._would_share(sequence, other) for other in reading):
                yield sequence

    def _would_share(self, sequence: Sequence, other: Sequence) -> bool:
        if sequence.family != other.family or sequence.wants_echo_scores:
            return False
        limit = len(sequence.tokens) - 1
        common = _common(sequence.tokens, other.tokens, limit) // BLOCK
        return common > other.computed // BLOCK and common > len(self._cache.find(sequence.family, sequence.tokens, limit))

    def _recall(self, sequence: Sequence) -> None:
        path = self._cache.find(sequence.family, sequence.tokens, len(sequence.tokens) - 1)
        for i, block in enumerate(path):
            self._slots.write(_slot(sequence), i * BLOCK, block.kv)
        sequence.path, sequence.computed = path, len(path) * BLOCK
        if sequence.index == 0 and len(sequence.tokens) == sequence.job.n_prompt:
            sequence.job.cached_tokens = sequence.computed

    def _make_room(self) -> None:
        """For one more token in every slot. Where memory does not allow it, the youngest goes back to the queue."""
        while True:
            longest = max(len(s.tokens) for s in self.active) + 1
            if len(self.active) == 1 or rounded(longest) * len(self.active) <= self._tokens_budget:
                self._slots.fit(len(self.active), longest)
                return
            youngest = self.active[-1]
            self.release(youngest)
            youngest.computed, youngest.path = 0, list[Block]()
            self.waiting.appendleft(youngest)

    def _share(self, decoding: list[Sequence]) -> Shared | None:
        """What the decoding conversations begin with in common, as long as they are the same ones."""
        now = tuple((id(s), _slot(s)) for s in decoding)
        if now != self._shared_for:
            self._shared_for, self._shared = now, _common_beginnings(decoding)
        return self._shared


def _slot(sequence: Sequence) -> int:
    assert sequence.slot is not None
    return sequence.slot


def _common(one: list[int], other: list[int], limit: int) -> int:
    limit = min(limit, len(one), len(other))
    return next((i for i in range(limit) if one[i] != other[i]), limit)


def _common_beginnings(decoding: list[Sequence]) -> Shared | None:
    """The length and the grouping that save most, or None where too little is saved.

    Neighbours in order of their tokens share most, so only their common lengths come into question.
    """
    if len(decoding) < 2:
        return None
    ordered = sorted(decoding, key=lambda s: (repr(s.family), s.tokens))
    common = [
        _common(a.tokens, b.tokens, min(a.computed, b.computed)) if a.family == b.family else 0
        for a, b in pairwise(ordered)
    ]
    shortest = min(s.computed for s in ordered)

    def saved(length: int) -> int:
        n_groups = 1 + sum(c < length for c in common)
        return length * (len(ordered) - n_groups) - SHARE_GROUP * n_groups - SHARE_ALL

    length = max({min(c, shortest) for c in common}, key=saved)
    if saved(length) <= 0:
        return None
    groups: list[list[int]] = [[_slot(ordered[0])]]
    for sequence, c in zip(ordered[1:], common, strict=True):
        if c >= length:
            groups[-1].append(_slot(sequence))
        else:
            groups.append([_slot(sequence)])
    return Shared(length, tuple(tuple(g) for g in groups))

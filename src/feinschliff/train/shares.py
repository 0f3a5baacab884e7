"""How the examples of one optimizer step are divided among processes that compute it together. A pure function of the step."""
from bisect import bisect, insort
from collections.abc import Sequence
from itertools import pairwise

from feinschliff.core.chat import Rendered

_Inputs = tuple[int, ...]


def shares(examples: Sequence[Rendered], n: int) -> list[list[Rendered]]:
    """Divide `examples` into `n` lists, some perhaps empty, so that the largest one's computed tokens are few.

    A step takes as long as its largest share. A prefix that several examples have in common costs its tokens once in
    every share that it occurs in: it is repeated where that shortens the largest share, and kept whole where not.
    Of two ways the better one is taken: cutting the sorted examples into n runs, which keeps prefixes together,
    and giving the longest example left to the share that is smallest with it, which balances what has none.
    Tokens stand for time; attention within long examples, which grows faster, is not counted.
    """
    if n == 1:
        return [list(examples)]
    inputs = [_inputs(e) for e in examples]
    ways = (_runs(inputs, n), _balanced(inputs, n))
    best = min(ways, key=lambda way: max(_computed([inputs[i] for i in share]) for share in way))
    return [[examples[i] for i in sorted(share)] for share in best]


def _inputs(example: Rendered) -> _Inputs:
    """What is computed of an example: nothing after the token that its last trained one is predicted from."""
    return tuple(example.tokens[: max((i for i, w in enumerate(example.weights) if w > 0), default=0)])


def _common(a: _Inputs, b: _Inputs) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _computed(share: Sequence[_Inputs]) -> int:
    """Tokens in the trie of `share`: in sorted order each example adds what it does not share with the one before."""
    return sum(len(b) - _common(a, b) for a, b in pairwise([(), *sorted(share)]))


def _runs(inputs: Sequence[_Inputs], n: int) -> list[list[int]]:
    """The sorted examples in at most `n` runs, the longest run as short as runs can be."""
    order = sorted(range(len(inputs)), key=inputs.__getitem__)
    new = [len(inputs[b]) - _common(inputs[a], inputs[b]) for a, b in pairwise([order[0], *order])] if order else []
    low, high = 0, _computed(inputs)
    while low < high:
        limit = (low + high) // 2
        fits = len(_cut(inputs, order, new, limit)) <= n and max(map(len, inputs)) <= limit
        low, high = (low, limit) if fits else (limit + 1, high)
    cut = _cut(inputs, order, new, low)
    return cut + [[] for _ in range(n - len(cut))]


def _cut(inputs: Sequence[_Inputs], order: Sequence[int], new: Sequence[int], limit: int) -> list[list[int]]:
    """Runs of `order`, each begun where the one before would exceed `limit` tokens. `new`: what each adds to its run."""
    cut: list[list[int]] = []
    size = 0
    for i, added in zip(order, new, strict=True):
        if not cut or size + added > limit:
            cut.append([])
            size, added = 0, len(inputs[i])
        cut[-1].append(i)
        size += added
    return cut


def _balanced(inputs: Sequence[_Inputs], n: int) -> list[list[int]]:
    """The longest example first, each to the share that is smallest once it has it."""
    given: list[list[int]] = [[] for _ in range(n)]
    tries: list[list[_Inputs]] = [[] for _ in range(n)]  # sorted
    sizes = [0] * n
    for i in sorted(range(len(inputs)), key=lambda i: (-len(inputs[i]), inputs[i])):
        with_it = [size + len(inputs[i]) - _held(trie, inputs[i]) for size, trie in zip(sizes, tries, strict=True)]
        least = min(range(n), key=lambda r: (with_it[r], r))
        sizes[least] = with_it[least]
        given[least].append(i)
        insort(tries[least], inputs[i])
    return given


def _held(trie: Sequence[_Inputs], example: _Inputs) -> int:
    """How much of `example` is already in the sorted `trie`; a neighbour has the longest common prefix."""
    at = bisect(trie, example)
    return max((_common(near, example) for near in trie[max(0, at - 1) : at + 1]), default=0)

"""Rankings: the best of a score vector, and the fusion of several rankings into one."""
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RRF_K = 60  # Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion …", SIGIR 2009: 60 "near-optimal", not sensitive


def best(scores: NDArray[np.float32], n: int, *, above: float = -np.inf) -> list[int]:
    """Indices of the `n` highest scores greater than `above`, best first; equal scores in index order."""
    order = np.argsort(-scores, kind="stable")[:n]
    return [int(i) for i in order if scores[i] > above]


def fuse(rankings: Sequence[Sequence[int]], *, k: int = RRF_K) -> list[tuple[int, float]]:
    """Reciprocal rank fusion: score(d) = Σ 1 / (k + rank of d), ranks from 1, over the rankings that hold d.

    Best first; equal scores in order of the ids, so that the result depends on nothing but the input.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=1):
            scores[item] = scores.get(item, 0.0) + 1.0 / (k + rank)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))

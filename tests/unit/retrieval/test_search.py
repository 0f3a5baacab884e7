import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feinschliff.retrieval.search import best, fuse


def test_fusion_is_the_sum_of_reciprocal_ranks() -> None:
    fused = dict(fuse([[7, 3], [3, 9]]))
    assert fused == pytest.approx({3: 1 / 62 + 1 / 61, 7: 1 / 61, 9: 1 / 62})


def test_equal_scores_come_in_order_of_their_ids() -> None:
    assert [item for item, _ in fuse([[5, 2], [2, 5], [9], [1]])] == [2, 5, 1, 9]
    assert best(np.array([1, 3, 3, 0], dtype=np.float32), 4, above=0.0) == [1, 2, 0]


rankings = st.lists(st.lists(st.integers(0, 20), unique=True, max_size=12), max_size=4)


@given(rankings)
def test_fusion_does_not_depend_on_the_order_of_the_rankings(lists: list[list[int]]) -> None:
    forward, backward = dict(fuse(lists)), dict(fuse(lists[::-1]))
    assert forward.keys() == backward.keys() == {item for ranking in lists for item in ranking}
    assert forward == pytest.approx(backward)


@given(rankings, st.integers(0, 20))
def test_a_further_vote_never_lowers_an_item(lists: list[list[int]], item: int) -> None:
    def place(fused: list[tuple[int, float]]) -> int:
        ids = [i for i, _ in fused]
        return ids.index(item) if item in ids else len(ids)

    assert place(fuse([*lists, [item]])) <= place(fuse(lists))

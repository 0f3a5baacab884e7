"""Dividing a step among ranks."""
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feinschliff.core.chat import Rendered
from feinschliff.nn.tree import pack
from feinschliff.train.shares import shares


def example(*tokens):
    return Rendered([*tokens, 0], [0.0] * len(tokens) + [1.0])  # all but the last token is computed


def computed(share):
    return len(pack(share, min_saving=1)) if share else 0


def sizes(examples, n):
    return [computed(share) for share in shares(examples, n)]


TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=12)


@given(st.lists(TOKENS, max_size=12), st.integers(1, 5))
def test_every_example_is_in_exactly_one_share_and_no_share_exceeds_the_whole(rows, n):
    examples = [example(*row) for row in rows]
    parts = shares(examples, n)
    assert len(parts) == n
    assert Counter(id(e) for part in parts for e in part) == Counter(id(e) for e in examples)
    if examples:
        longest = max(len(e.tokens) for e in examples) - 1
        whole = computed(examples)
        assert max(map(computed, parts)) <= whole
        assert max(map(computed, parts)) >= max(longest, -(-whole // n))


def test_more_ranks_than_examples_leave_some_empty():
    assert sorted(map(len, shares([example(1, 2), example(3)], 4))) == [0, 0, 1, 1]
    assert shares([], 2) == [[], []]


def test_without_anything_shared_lengths_balance():
    examples = [example(*range(1000 * i, 1000 * i + n)) for i, n in enumerate([50, 600, 100, 90, 300, 350, 60, 250])]
    assert max(sizes(examples, 2)) <= 0.51 * sum(len(e.tokens) - 1 for e in examples)


def test_a_prefix_of_all_is_repeated_because_the_rest_then_takes_half_the_time():
    examples = [example(*range(100), 200 + i, *range(300, 370)) for i in range(8)]
    assert sizes(examples, 2) == [100 + 4 * 71] * 2


def test_two_prefixes_go_one_to_each():
    examples = [example(*range(p, p + 400), 50 + i, *range(90, 100 + i)) for i in range(4) for p in (1000, 2000)]
    parts = shares(examples, 2)
    assert [{e.tokens[0] for e in part} for part in parts] in ([{1000}, {2000}], [{2000}, {1000}])


def test_tokens_after_the_last_trained_one_cost_nothing():
    tail = [Rendered([9, i, *range(50)], [0.0, 1.0] + [0.0] * 50) for i in range(3)]
    assert sorted(map(len, shares([*tail, example(*range(20, 60))], 2))) == [1, 3]


@pytest.mark.parametrize("n", [2, 3])
def test_the_same_step_is_divided_the_same_way(n):
    examples = [example(7, i % 3, i) for i in range(10)]
    assert shares(examples, n) == shares(list(examples), n)

from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from feinschliff.core.chat import Rendered
from feinschliff.nn.tree import pack
from feinschliff.train.batches import Batches
from feinschliff.train.grouping import BLOCK, grouped_batches, grouped_order, prefix_marks


def example(*tokens: int) -> Rendered:
    return Rendered(list(tokens), [0.0] * (len(tokens) - 2) + [1.0] * 2)


def family(start: int, n: int) -> list[Rendered]:
    """`n` examples that share 2.5 blocks and go on by themselves."""
    shared = range(start, start + 5 * BLOCK // 2)
    return [example(*shared, 9000 + i, *range(5000 + 100 * i, 5070 + 100 * i)) for i in range(n)]


DATA = [e for trio in zip(family(0, 8), family(1000, 8), family(2000, 8), strict=True) for e in trio]


def test_examples_under_one_prefix_stand_together_in_an_order_that_the_seed_decides():
    marks = prefix_marks(DATA)
    order = grouped_order(marks, 0, 0)
    assert sorted(order) == list(range(24))
    assert len({i % 3 for i in order[:8]}) == len({i % 3 for i in order[8:16]}) == 1
    assert order == grouped_order(marks, 0, 0)
    assert order != grouped_order(marks, 0, 1)
    assert order != grouped_order(marks, 1, 0)


def test_prefixes_are_kept_together_at_every_depth():
    inner = [example(*range(64), *range(100 * k, 100 * k + 64), 7000 + i, 1, 2) for k in (5, 6, 7) for i in range(4)]
    order = grouped_order(prefix_marks([*inner, *family(3000, 5)]), 3, 0)
    where = {i: at for at, i in enumerate(order)}
    for group in (range(4), range(4, 8), range(8, 12), range(12), range(12, 17)):
        places = [where[i] for i in group]
        assert max(places) - min(places) == len(places) - 1


def test_without_long_prefixes_it_is_a_shuffle():
    short = [example(*range(40), 100 + i, 2, 3) for i in range(200)]
    order = grouped_order(prefix_marks(short), 0, 0)
    apart = sum(abs(a - b) for a, b in pairwise(order)) / 199
    assert 50 < apart < 85  # 67 for a uniform one


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from([0, 1]), min_size=1, max_size=4), min_size=1, max_size=20), st.integers(1, 7), st.integers(0, 5))
def test_every_epoch_shows_every_example_once(paths, size, epoch):
    rows = [example(*(t for branch in path for t in [branch] * BLOCK), 3, 4) for path in paths]
    batches = grouped_batches(prefix_marks(rows), size, 0, epoch)
    assert sorted(i for b in batches for i in b) == list(range(len(rows)))
    assert sorted(map(len, batches), reverse=True)[:-1] == [size] * (len(batches) - 1)
    assert len(batches) == Batches([rows], size, 0, "epoch").per_epoch


def test_steps_compute_less_and_come_in_mixed_order():
    free, grouped = Batches([DATA], 8, 0), Batches([DATA], 8, 0, "epoch")
    computed = [sum(len(pack(b.at(step))) for step in range(3)) for b in (free, grouped)]
    assert computed[1] < 0.8 * computed[0]
    seen = Counter(id(e) for step in range(3) for e in grouped.at(step))
    assert set(seen.values()) == {1}
    assert len(seen) == 24
    firsts = {grouped.at(3 * epoch)[0].tokens[0] for epoch in range(12)}
    assert firsts == {0, 1000, 2000}  # no family is always the first


def test_a_resumed_run_finds_the_same_steps():
    whole = Batches([DATA], 5, 7, "epoch")
    before = [whole.at(step) for step in range(15)]
    assert Batches([DATA], 5, 7, "epoch").at(13) == before[13]

"""Curating and splitting: the same every time, stable under additions, and the held-out set untouched."""
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feinschliff.core.chat import Example, assistant, user
from feinschliff.core.errors import BadData
from feinschliff.core.study import Split
from feinschliff.data.convert import sha256
from feinschliff.data.curate import curate
from feinschliff.data.read import load
from feinschliff.data.split import freeze, share_of, split, take


def rows(n: int, **meta: object) -> list[Example]:
    return [
        Example(messages=(user(f"{i} {i * i} {i**3}"), assistant(str(i))), meta={"g": i % 7, **meta}, line=i + 1)
        for i in range(n)
    ]


def ids(examples) -> set[str]:
    return {e.id for e in examples}


@given(n=st.integers(30, 120), extra=st.integers(1, 60), seed=st.integers(0, 5))
def test_nobody_changes_sides_when_rows_are_added(n, extra, seed):
    before, after = split(rows(n), Split(seed=seed)), split(rows(n + extra), Split(seed=seed))
    # a part that would be empty borrows one row, which may go back; otherwise membership is a matter of the row alone
    assert len(ids(before.train) - ids(after.train)) <= 2
    assert not (ids(before.test) & ids(after.train)) or len(before.test) == 1


def test_parts_are_disjoint_complete_and_about_the_right_size():
    parts = split(rows(2000), Split(test=0.2, validation=0.1))
    assert ids(parts.train) | ids(parts.validation) | ids(parts.test) == ids(rows(2000))
    assert len(parts.train) + len(parts.validation) + len(parts.test) == 2000
    assert 340 < len(parts.test) < 460
    assert 140 < len(parts.validation) < 260
    assert ids(parts.test) != ids(split(rows(2000), Split(test=0.2, validation=0.1, seed=1)).test)


def test_groups_stay_together():
    parts = split(rows(200), Split(test=0.3, validation=0.2, group="g"))
    groups = [{e.meta["g"] for e in part} for part in (parts.train, parts.validation, parts.test)]
    assert sum(map(len, groups)) == 7
    assert all(groups)
    with pytest.raises(BadData, match="group by") as caught:
        split(rows(20), Split(group="gg"))
    assert "'g'" in caught.value.hint


def test_a_small_set_still_has_every_part():
    parts = split(rows(10), Split(test=0.01, validation=0.01))
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (8, 1, 1)


def test_leaks_leave_train_and_never_the_held_out_set():
    data = rows(50)
    held_out = [data[3].model_copy(update={"line": 1}), *rows(60)[55:]]
    parts = split(data, Split(), held_out)
    assert parts.test == tuple(held_out)
    assert data[3].id not in ids(parts.train) | ids(parts.validation)
    assert (parts.n_dropped, parts.leakage.counts["exact"]) == (1, 1)
    kept = split(data, Split(leaks="report"), held_out)
    assert (kept.n_dropped, kept.leakage.counts["exact"], len(kept.train) + len(kept.validation)) == (0, 1, 50)
    with pytest.raises(BadData, match="Nothing is left"):
        split(data, Split(), data)


def test_frozen_files_carry_their_hash_and_read_back(tmp_path):
    parts = split(rows(100), Split())
    frozen = freeze(tmp_path, parts)
    assert {p.name for p in tmp_path.iterdir()} == {"train.jsonl", "validation.jsonl", "test.jsonl"}
    again = load(frozen["test"].path)
    assert sha256(again) == frozen["test"].sha256
    assert [(e.id, e.meta) for e in again] == [(e.id, e.meta) for e in parts.test]
    assert freeze(tmp_path, parts) == frozen


def test_taking_a_sample_is_stable():
    first = take(rows(100), 20, seed=0)
    assert len(first) == 20
    assert [e.line for e in first] == sorted(e.line for e in first)
    assert len(ids(first) & ids(take(rows(110), 20, seed=0))) >= 15
    assert len(take(rows(5), 20, seed=0)) == 5


def test_curation_removes_repetitions_and_outer_white_space():
    texts = ["a", "a ", " a\n", "    def f():\n        pass\n", "b"]
    given_rows = [Example(messages=(user("q"), assistant(text)), line=i) for i, text in enumerate(texts, start=1)]
    kept, report = curate(given_rows)
    assert [e.answer for e in kept] == ["a", "    def f():\n        pass", "b"]
    assert (report.n_in, report.n_out, report.duplicates, report.stripped) == (5, 3, ((2, 1), (3, 1)), (2, 3, 4))
    assert curate(kept) == (kept, type(report)(3, 3, (), ()))
    assert json.dumps([e.answer for e in given_rows]) == json.dumps(texts)  # the input is not changed


@given(seed=st.integers(0, 5), shares=st.lists(st.floats(0.01, 1), min_size=2, max_size=2), group=st.sampled_from([None, "g"]))
def test_shares_are_nested_whole_groups_in_file_order(seed, shares, group):
    examples = rows(40)
    small, large = (share_of(examples, share, seed, group) for share in sorted(shares))
    assert ids(small) <= ids(large)
    assert list(large) == [e for e in examples if e.id in ids(large)]
    n = max(shares) * 40
    if group is None:
        assert n <= len(large) < n + 1
    else:
        kept = {e.meta["g"] for e in large}
        assert len(large) == sum(e.meta["g"] in kept for e in examples)
        assert n <= len(large) < n + 6


def test_seeds_draw_other_shares():
    assert len({frozenset(ids(share_of(rows(40), 0.5, seed, None))) for seed in range(4)}) == 4
    assert share_of(rows(40), 1.0, 3, None) == tuple(rows(40))

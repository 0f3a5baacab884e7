"""Failures become training data, but the held-out set does not."""
import json
from pathlib import Path

import pytest

from feinschliff.core.chat import Example, assistant, user
from feinschliff.core.errors import BadData, CheckFailed
from feinschliff.data.convert import to_jsonl
from feinschliff.data.failures import add_failures, find_held_out
from feinschliff.data.read import load


def row(i: int, answer: str = "a") -> Example:
    return Example(messages=(user(f"Question {i}, about the thing called {chr(97 + i) * 5}?"), assistant(answer)))


def failure(example: Example, *, labelled: bool = True, **more: object) -> str:
    line = json.loads(to_jsonl([example]))
    return json.dumps(line | {"reply": "wrong", "labelled": labelled, "arm": "base", "example_id": example.id, **more}) + "\n"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test.jsonl").write_bytes(to_jsonl(row(i) for i in range(5)))
    (tmp_path / "train.jsonl").write_bytes(to_jsonl(row(i) for i in range(5, 10)).rstrip(b"\n"))
    return tmp_path


def add(study: Path, text: str, **options: object):
    failures = study / "failures.jsonl"
    failures.write_text(text, encoding="utf-8")
    return add_failures(failures, study / "train.jsonl", find_held_out(failures), **options)


def test_labelled_rows_are_added_once_and_the_file_is_kept(study):
    before = (study / "train.jsonl").read_bytes()
    text = failure(row(11)) + failure(row(11)) + failure(row(12), labelled=False) + failure(row(6)) + failure(row(1))
    done = add(study, text)
    assert (done.added, done.unlabelled, done.refused, done.moved, done.n_training) == (1, 1, 1, 0, 6)
    assert (study / "train.jsonl").read_bytes() == before + b"\n" + to_jsonl([row(11)])
    with pytest.raises(CheckFailed, match="already"):
        add(study, text)


def test_a_held_out_question_with_a_corrected_answer_is_refused(study):
    edited = failure(row(1, "corrected"), example_id="")
    before = (study / "train.jsonl").read_bytes()
    with pytest.raises(CheckFailed, match="held-out set") as caught:
        add(study, edited)
    assert "--from-held-out" in caught.value.hint
    assert (study / "train.jsonl").read_bytes() == before


def test_moving_takes_the_row_out_of_a_new_held_out_file(study):
    frozen = (study / "data" / "test.jsonl").read_bytes()
    done = add(study, failure(row(1, "corrected")), from_held_out=True, remaining=study / "new_test.jsonl")
    assert (done.added, done.moved, done.n_held_out_left) == (1, 1, 4)
    assert (study / "data" / "test.jsonl").read_bytes() == frozen
    assert row(1).question not in {e.question for e in load(study / "new_test.jsonl")}


def test_nothing_labelled_says_how(study):
    with pytest.raises(CheckFailed, match="is labelled") as caught:
        add(study, failure(row(11), labelled=False))
    assert "labelled" in caught.value.hint


def test_a_labelled_row_without_an_answer_is_refused(study):
    with pytest.raises(BadData, match="line 1"):
        add(study, failure(row(11, "")))


def test_the_training_file_is_made_where_there_is_none(study):
    (study / "train.jsonl").unlink()
    assert add(study, failure(row(11))).n_training == 1
    assert load(study / "train.jsonl")[0].meta == {}


def test_no_held_out_file_near(tmp_path):
    assert find_held_out(tmp_path / "failures.jsonl") is None

"""What counts as a leak, what does not, and that the join finds what comparing all pairs finds."""
import random
from pathlib import Path

import pytest

from feinschliff.core.chat import Example, assistant, system, user
from feinschliff.core.study import Mapping
from feinschliff.data.leakage import best_matches, character_shingles, find_leaks, fold
from feinschliff.data.read import load

SHARED = Path(__file__).parents[4] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not on this machine")
LONG = "the quick brown fox jumps over the lazy dog and then runs away from the big angry bear in the deep dark wood at night"


def row(question: str, answer: str = "a", line: int = 1) -> Example:
    return Example(messages=(user(question), assistant(answer)), line=line)


def kinds(train: str, test: str, answer: str = "a") -> list[str]:
    return [leak.kind for leak in find_leaks([row(train, answer)], [row(test)]).leaks]


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        ("Where is my card?", "Where is my card?", ["exact"]),
        ("Where is my card?", "where  is my CARD", ["normalised"]),
        ("Can I top-up by cheque?", "Can I top up by cheque", ["normalised"]),
        ("Why did my transfer get declined?", "Why did my my transfer get declined?", ["near_duplicate"]),
        (LONG, LONG + " too", ["near_duplicate"]),
        ("Who knows Mary?", "Who knows Gary?", []),
        ("Who has the NHS number 337-28-4424 in this town?", "Who has the NHS number 337-28-4425 in this town?", []),
        ("What is the first call of Stephen?", "What is the first call of Frances?", []),
        ("???", "!!!", []),
    ],
)
def test_kinds(train, test, expected):
    assert kinds(train, test) == expected


def test_the_same_question_with_another_answer_or_system_text_leaks():
    assert kinds("Where is my card?", "Where is my card?", answer="other") == ["normalised"]
    prompted = Example(messages=(system("Be brief."), user("Where?"), assistant("a")))
    assert find_leaks([prompted], [row("Where?")]).counts["normalised"] == 1


def test_a_common_last_turn_is_no_leak():
    def dialogue(first: str) -> Example:
        return Example(messages=(user(first), assistant("Shall I?"), user("Yes, please."), assistant("Done.")))

    leakage = find_leaks([dialogue("Book a table for two in Graz.")], [dialogue("Cancel my newspaper.")])
    assert leakage.counts == {"exact": 0, "normalised": 0, "near_duplicate": 0, "shared_answer": 1}
    assert leakage.leaked_ids == frozenset()


def test_a_leak_names_both_lines():
    (leak,) = find_leaks([row("x", line=3), row("Where is it?", line=4)], [row("y", line=8), row("where is it", line=9)]).leaks
    assert (leak.train_line, leak.test_line, leak.similarity) == (4, 9, 1.0)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_the_join_misses_nothing(threshold):
    dice = random.Random(0)
    words = ["card", "top", "up", "transfer", "my", "the", "a", "is", "why", "not", "where", "how", "work"]
    targets = [fold(" ".join(dice.choices(words, k=dice.randint(6, 11)))) for _ in range(100)]
    queries = [dice.choice(targets) + dice.choice(["", "s", " it", " now please", " again and again"]) for _ in range(140)]

    def jaccard(a: str, b: str) -> float:
        one, other = character_shingles(a), character_shingles(b)
        return len(one & other) / len(one | other)

    expected = {i: best for i, q in enumerate(queries) if (best := max(jaccard(q, t) for t in targets)) >= threshold}
    assert expected
    assert {i: similarity for i, _, similarity in best_matches(queries, targets, threshold)} == pytest.approx(expected)


@needs_shared
def test_real_questions_that_differ_in_a_name_are_not_leaks():
    mapping = Mapping(input="nl", output="mr")
    train = load(SHARED / "zograscope_train.jsonl", mapping=mapping)
    test = load(SHARED / "zograscope_test_iid_dev.jsonl", mapping=mapping)
    counts = find_leaks(train, test).counts
    assert (counts["exact"], counts["normalised"], counts["near_duplicate"]) == (0, 0, 0)
    assert counts["shared_answer"] > 0


@needs_shared
def test_real_leaks_are_found():
    mapping = Mapping(input="text", output="category")
    train = load(SHARED / "banking77_train.jsonl", mapping=mapping)
    test = load(SHARED / "banking77_test.jsonl", mapping=mapping)
    leakage = find_leaks(train, test)
    pairs = {(leak.train_line, leak.kind) for leak in leakage.leaks}
    asked = {e.question: e.line for e in train}
    assert (asked["Can I top-up by cheque?"], "normalised") in pairs
    assert (asked["Why did my transfer get declined?"], "near_duplicate") in pairs
    assert leakage.counts["normalised"] == 25

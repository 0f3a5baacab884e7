import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feinschliff.core.chat import Example, assistant, user
from feinschliff.core.ports import GraderFailure, Reply, Score
from feinschliff.evals.graders.extract import extracted
from feinschliff.evals.graders.label import Label, accuracy, macro_f1
from feinschliff.evals.graders.overlap import Bleu, Chrf, Rouge, corpus_bleu, corpus_chrf, rouge_l
from feinschliff.evals.graders.text import Contains, Exact, Fuzzy, Normalised, Regex, normalised


def grade(grader, gold, said):
    return grader(Example(messages=(user("q"), assistant(gold))), Reply(said, 1, 1))


def value(grader, gold, said):
    score = grade(grader, gold, said)
    assert isinstance(score, Score), score
    return score.value


@pytest.mark.parametrize(
    ("text", "how", "expected"),
    [
        (" a ", "none", " a "),
        (" a ", "fence", "a"),
        ("Sure:\n```gql\nMATCH\nRETURN\n```\nbye ``` x ```", "fence", "MATCH\nRETURN"),
        ("```\ncut off", "fence", "cut off"),
        ("```sql\nSELECT 1```", "fence", "SELECT 1"),
        ("\n  one \ntwo", "first_line", "one"),
        ("", "first_line", ""),
    ],
)
def test_extracts_the_answer(text, how, expected):
    assert extracted(text, how) == expected


def test_exact_minds_case_but_not_outer_blanks():
    assert value(Exact(), "Paris", " Paris\n") == 1
    assert value(Exact(), "Paris", "paris") == 0
    assert value(Exact(strip=False), "Paris", "Paris\n") == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Don’t   PANIC! ", "dont panic"),
        ("3.5, 10/08/2017", "3.5 10/08/2017"),
        ("-5 and −5", "-5 and -5"),
        ("well-known card_arrival", "well known card arrival"),
        ("Straße", "strasse"),
        ("ﬁne…", "fine"),
    ],
)
def test_normalises(text, expected):
    assert normalised(text) == expected


@given(st.text())
def test_normalising_twice_changes_no_words(text):
    assert " ".join(normalised(text).split()) == normalised(text)


def test_normalised_keeps_numbers_apart():
    assert value(Normalised(), "3.5", "35") == 0
    assert value(Normalised(), "-5", "5") == 0
    assert value(Normalised(), "The Hague.", "the hague") == 1


def test_regex_finds_covers_and_captures():
    assert value(Regex(r"\d+"), "", "it is 18") == 1
    assert value(Regex(r"\d+", mode="fullmatch"), "", "it is 18") == 0
    answer = Regex(r"#### (\S+)", capture=1)
    assert value(answer, "so 9+9 #### 18", "steps #### 18") == 1
    assert value(answer, "18", "steps #### 18") == 1
    assert value(answer, "so #### 18", "steps #### 19") == 0
    assert value(Regex("yes", ignore_case=True), "", "YES") == 1


@pytest.mark.parametrize(
    "options", [{"pattern": "("}, {"pattern": "a", "capture": 1}, {"pattern": "a", "capture": "x"}]
)
def test_regex_refuses_what_it_cannot_match(options):
    with pytest.raises(ValueError, match="pattern"):
        Regex(**options)


def test_contains():
    assert value(Contains(), "Paris", "It is PARIS.") == 1
    assert value(Contains(fold=False), "Paris", "It is PARIS.") == 0
    assert value(Contains(texts=("a", "b")), "", "only a") == 0
    assert isinstance(grade(Contains(), "", "x"), GraderFailure)


def test_fuzzy_is_graded_until_it_has_a_threshold():
    assert not Fuzzy().binary
    assert Fuzzy(threshold=0.8).binary
    assert value(Fuzzy(), "abcd", "abcx") == pytest.approx(0.75)  # 2·3/8
    assert value(Fuzzy(threshold=0.75), "abcd", "abcx") == 1
    assert value(Fuzzy(threshold=0.8), "abcd", "abcx") == 0
    with pytest.raises(ValueError, match="threshold"):
        Fuzzy(threshold=80)


def test_rouge_l_is_the_f1_of_the_common_subsequence():
    # Lin (2004), section 3.1: S1 "police killed the gunman", S2 and S3 have LCS 3 and 2 of 4 words.
    assert rouge_l("police killed the gunman", "police kill the gunman") == pytest.approx(3 / 4)
    assert rouge_l("police killed the gunman", "the gunman kill police") == pytest.approx(2 / 4)
    assert rouge_l("a b", "") == 0


@pytest.mark.parametrize("grader", [Chrf(), Bleu(), Rouge()])
def test_overlap_is_one_for_the_gold_text_and_needs_one(grader):
    gold = "the quick brown fox jumps over the dog"
    assert value(grader, gold, gold) == pytest.approx(1)
    assert 0 < value(grader, gold, "the quick brown fox sleeps") < 1
    assert value(grader, gold, "") == 0
    assert isinstance(grade(grader, " ", gold), GraderFailure)


def test_corpus_scores_weigh_long_sentences_more():
    golds = ["a b c d e f g h i j", "x y z w"]
    replies = ["a b c d e f g h i j", "q r s t"]
    assert 0.5 < corpus_bleu(golds, replies) < 1
    assert 0.5 < corpus_chrf(golds, replies) < 1


def test_label_takes_the_one_label_that_a_reply_names():
    grader = Label(labels=("card", "card_arrival", "top-up"))
    assert grade(grader, "card_arrival", "I think it's Card Arrival.") == Score(1.0, label="card_arrival")
    assert grade(grader, "card", "card").label == "card"
    wrong = grade(grader, "card", "top-up")
    assert (wrong.value, wrong.label) == (0, "top-up")
    none = grade(grader, "card", "card or top-up?")
    assert (none.value, none.label) == (0, "")
    assert grade(grader, "card", "discard").label == ""
    assert isinstance(grade(grader, "unknown", "card"), GraderFailure)


def test_label_learns_its_set_from_the_gold_labels():
    seen = Label().seen(["a", "b", "a"])
    assert seen.labels == ("a", "b")
    assert grade(seen, "a", "b").label == "b"
    assert Label(labels=("x",)).seen(["a"]).labels == ("x",)
    with pytest.raises(ValueError, match="two labels"):
        Label(labels=("a-b", "a_b"))


def test_label_metrics():
    pairs = [("a", "a"), ("a", "b"), ("b", "b"), ("c", "")]
    assert accuracy(pairs) == 0.5
    # a: 2·1/(2+1), b: 2·1/(1+2), c: 0
    assert macro_f1(pairs) == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    with pytest.raises(ValueError, match="no labels"):
        macro_f1([])


@given(st.text(), st.text())
def test_every_text_grader_stays_within_its_scale(gold, said):
    for grader in (Exact(), Normalised(), Contains(), Fuzzy(), Rouge(), Label()):
        score = grade(grader, gold, said)
        assert isinstance(score, GraderFailure) or (0 <= score.value <= 1 and not math.isnan(score.value))

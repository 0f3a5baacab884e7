"""OpenAI's graders: what of them needs no model."""
import pytest
from pydantic import TypeAdapter, ValidationError

from feinschliff.core.criteria import Criterion, models_of
from feinschliff.core.errors import BadData
from feinschliff.evals.criteria import formula
from feinschliff.evals.criteria.check import check
from feinschliff.evals.criteria.failed import NotGraded
from feinschliff.evals.criteria.similarity import MEASURES, bleu, fuzzy_match, gleu
from feinschliff.evals.criteria.templates import bad_names, filled

CRITERION = TypeAdapter(Criterion)
VARIABLES = {"item": {"q": "two", "n": 2, "list": [{"a": "x"}], "odd-key": "y"}, "sample": {"output_text": "2"}}
CHECK = {"type": "string_check", "name": "same", "input": "{{ sample.output_text }}", "reference": "{{item.n}}", "operation": "eq"}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{item.q}} is {{ sample.output_text }}", "two is 2"), ("{{ item.n }}", "2"), ("{{item.list[0].a}}{{item.list.0.a}}", "xx"),
        ("{{item.list}}", '[{"a": "x"}]'), ("{{ item.odd-key }}", "y"), ("{ item.q } }}", "{ item.q } }}"),
    ],
)  # fmt: skip
def test_names_are_filled_in(template, text):
    assert filled(template, VARIABLES) == text


@pytest.mark.parametrize("template", ["{{item.none}}", "{{item.list[1]}}", "{{sample.output_json.a}}", "{{item.q.x}}"])
def test_a_name_that_stands_for_nothing_is_no_empty_text(template):
    with pytest.raises(NotGraded, match="stands for nothing") as told:
        filled(template, VARIABLES)
    assert told.value.kind == "invalid_variable_error"


def test_names_that_can_never_stand_for_something():
    assert bad_names("{{ item.a }} {{ items.a }} {{sample}} {{ 1+1 }}") == ["items.a", "1+1"]


def test_similarity():
    """By hand: `a b c d` against `a b x`: unigrams 2 common of 4 and 3, bigrams 1 of 3 and 2."""
    assert MEASURES["rouge_1"]("a b c d", "a b x") == pytest.approx(4 / 7)
    assert MEASURES["rouge_2"]("a b c d", "a b x") == pytest.approx(2 / 5)
    assert MEASURES["rouge_3"]("a b c d", "a b x") == 0
    assert MEASURES["rouge_l"]("a b c d", "a b x") == pytest.approx(4 / 7)
    assert gleu("a b c d", "a b x") == pytest.approx(3 / 10)  # 3 common n-grams; 4 + 3 + 2 + 1 in the longer text
    assert fuzzy_match("abcd", "abxx") == pytest.approx(0.5)
    assert bleu("the cat sat on the mat", "the cat sat on the mat") == pytest.approx(1)
    for measure in MEASURES.values():
        assert measure("The cat sat on the mat.", "The cat sat on the mat.") == pytest.approx(1)
        assert 0 <= measure("", "something else") < 0.01


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.5*a + b^2", 4.25), ("max(a, b, 1) - min(a, b)", 1.5), ("-(a - 1) / 2", 0.25), ("sqrt(b*2) + floor(1.9) + abs(-a)", 3.5)],
)
def test_formulas(text, value):
    formula.checked(text, frozenset("ab"))
    assert formula.calculated(text, {"a": 0.5, "b": 2.0}) == pytest.approx(value)


@pytest.mark.parametrize("text", ["c + 1", "a.real", "__import__('os')", "a if b else a", "[a][0]", "a <", "min(a)", "True", "(" * 300, "'x'"])
def test_what_is_no_arithmetic_is_refused(text):
    with pytest.raises(NotGraded) as told:
        formula.checked(text, frozenset("ab"))
    assert told.value.kind == "formula_parse_error"


@pytest.mark.parametrize("text", ["a / (b - 2)", "9^9^9^9 * a", "log(a - 1)", "exp(1000)"])
def test_a_formula_without_a_finite_value_is_no_score(text):
    with pytest.raises(NotGraded, match="has no"):
        formula.calculated(text, {"a": 0.5, "b": 2.0})


def test_graders_as_others_write_them():
    """Messages as plain text, as a part, as a list of parts; sub-graders as one, a list, a mapping."""
    for content in ("Rate {{item.q}}", {"type": "input_text", "text": "Rate {{item.q}}"}, [{"type": "input_text", "text": "Rate "}, "{{item.q}}"]):
        grader = CRITERION.validate_python({"type": "score_model", "name": "s", "model": "m", "input": [{"role": "user", "content": content}]})
        assert grader.input[0].content.text == "Rate {{item.q}}"
    other = CHECK | {"name": "other"}
    for graders, names in ((CHECK, ["same"]), ([CHECK, other], ["same", "other"]), ({"a": CHECK, "b": other}, ["a", "b"])):
        multi = CRITERION.validate_python({"type": "multi", "name": "m", "graders": graders, "calculate_output": names[0]})
        check(multi)
        assert list(multi.by_name) == names
    assert models_of(grader) == {"m"}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (CHECK | {"input": "{{ items.x }}"}, "stands for nothing"),
        ({"type": "text_similarity", "name": "t", "input": "a", "reference": "b", "evaluation_metric": "meteor", "pass_threshold": 1}, "WordNet"),
        ({"type": "python", "name": "p", "source": "def grade(:"}, "no Python"),
        ({"type": "python", "name": "p", "source": "def judge(sample, item): return 1"}, "no `grade`"),
        ({"type": "multi", "name": "m", "graders": {"a": CHECK}, "calculate_output": "a + b"}, "not allowed"),
        ({"type": "label_model", "name": "l", "model": "m", "input": [{"role": "user", "content": "x"}], "labels": ["a"], "passing_labels": ["b"]}, "no labels"),
        ({"type": "score_model", "name": "l", "model": "m", "input": [{"role": "user", "content": "x"}], "range": [1, 0]}, "range"),
    ],
)  # fmt: skip
def test_a_grader_that_cannot_work_is_refused(given, why):
    with pytest.raises(BadData, match=why):
        check(CRITERION.validate_python(given))


def test_pictures_are_refused():
    message = {"role": "user", "content": [{"type": "input_image", "image_url": "http://x/y.png"}]}
    with pytest.raises(ValidationError, match="only text"):
        CRITERION.validate_python({"type": "score_model", "name": "s", "model": "m", "input": [message]})

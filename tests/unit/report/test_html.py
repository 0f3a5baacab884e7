"""The page: complete, self-contained, and safe to open whatever a model said."""
import re
import sys
from html.parser import HTMLParser

import pytest
from sample import with_trainings

from feinschliff.core.report import Report
from feinschliff.evals.compare import find
from feinschliff.report.html import coded, page, write_html

VOID = {"meta", "input", "br", "img", "link", "hr"}


class Checker(HTMLParser):
    """Collects tags with attributes, and fails on a tag that is closed out of order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.words = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def html(study_result):
    return page(study_result[0], answers=study_result[1])


@pytest.fixture(scope="module")
def parsed(html):
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    return checker


def test_page_is_self_contained(html, parsed):
    for tag, attributes in parsed.seen:
        assert tag not in {"link", "iframe", "img", "object"}
        for name in ("src", "href", "xlink:href", "data"):
            assert attributes.get(name, "#").startswith("#"), (tag, attributes)
    outside = set(re.findall(r"https?://[^\"'\s<)]+", html))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "default-src 'none'" in html


def test_what_a_model_said_stays_text(html, parsed):
    assert html.count("<script") == 1
    assert "&lt;script&gt;alert(" in html
    assert "{{ 7 * 7 }}" in html
    assert not any("onerror" in attributes for _, attributes in parsed.seen)


def test_hostile_names_stay_text_in_charts_and_tables(report):
    evil = '<b onclick="x">&"'
    hostile = Report.model_validate_json(report.model_dump_json().replace('"ordinary"', '"<b onclick=\\"x\\">&\\""'))
    checker = Checker()
    checker.feed(page(hostile))
    assert not any("onclick" in attributes for _, attributes in checker.seen)
    assert any(evil in word for word in checker.words)


def test_every_section_and_number_is_there(parsed, report):
    text = " ".join(parsed.words)
    ids = {attributes.get("id") for _, attributes in parsed.seen}
    assert {"verdict", "leaderboard", "charts", "answers", "record", "data", "reproduce"} <= ids
    assert report.held_out.sha256 in text
    for line in report.verdict.record:
        assert line.question in text
    for arm in report.arms:
        assert f"{arm.metrics['execution'].value:.3f}" in text
    assert text.count("exact McNemar") >= len(report.arms) - 1


def test_ids_are_unique_and_charts_have_a_text(parsed):
    ids = [attributes["id"] for _, attributes in parsed.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    images = [attributes for _, attributes in parsed.seen if attributes.get("role") == "img"]
    assert len(images) == 12
    assert all(len(attributes["aria-label"]) > 40 for attributes in images)


def test_wins_and_losses_match_the_report(parsed, report):
    outcomes = [attributes["data-outcome"] for _, attributes in parsed.seen if "data-outcome" in attributes]
    assert len(outcomes) == len(report.arms) * report.held_out.n
    of_goal = {a.name: find(report.comparisons, a.name, report.goal_grader, report.goal_part) for a in report.arms}
    assert [(a.wins, a.losses) for a in report.arms] == [(c.wins, c.losses) if c else (0, 0) for c in of_goal.values()]
    whole = [c for a in report.arms if (c := find(report.comparisons, a.name, report.goal_grader))]
    assert outcomes.count("win") == sum(c.wins for c in whole) > sum(a.wins for a in report.arms)  # both parts' questions are shown
    assert outcomes.count("loss") == sum(c.losses for c in whole)


def test_without_answers_the_worst_are_shown(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    checker = Checker()
    checker.feed(page(report))
    outcomes = [attributes["data-outcome"] for _, attributes in checker.seen if "data-outcome" in attributes]
    assert len(outcomes) == sum(len(a.worst) for a in report.arms)


def test_without_altair_the_page_says_so_and_is_still_written(report, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    write_html(report, tmp_path / "report.html", answers=None)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No charts: A report with charts needs the package &#39;altair&#39;" in text
    assert report.verdict.reasons[0].split("`")[0].strip() in text


def test_nothing_is_left_behind_when_writing_fails(report, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OSError, match=r"report\.html"):
        write_html(report, tmp_path / "report.html")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_study_without_tuned_arm_parts_or_training(report):
    untuned = tuple(a.model_copy(update={"parts": {}}) for a in report.arms[:2])
    small = report.model_copy(
        update={
            "arms": untuned, "best_untuned": "prompt", "best_tuned": None, "training": None, "goal_part": "", "comparisons": (),
            "held_out": report.held_out.model_copy(update={"parts": {}}),
        }
    )  # fmt: skip
    assert "By part of the held-out set" not in page(small)


def test_backticks_become_code_and_everything_else_is_escaped():
    assert coded("`a<b` & c") == "<code>a&lt;b</code> &amp; c"
    assert coded("one ` only") == "one ` only"


def test_seeds_and_curve_have_their_sections(study_result, html):
    assert 'id="seeds"' not in html
    assert 'id="curve"' not in html
    checker = Checker()
    text = page(with_trainings(study_result[0]), answers=study_result[1])
    checker.feed(text)
    assert checker.open == []
    ids = {attributes.get("id") for _, attributes in checker.seen}
    assert {"seeds", "curve", "chart-curve"} <= ids
    assert {attributes["href"][1:] for tag, attributes in checker.seen if tag == "a"} <= ids
    words = "".join(checker.words)
    assert "chosen by its validation loss, never by a held-out score" in words
    assert "The score still rose at the last step" in words

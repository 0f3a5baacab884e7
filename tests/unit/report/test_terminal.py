"""The leaderboard in the terminal."""
import io

from rich.console import Console

from feinschliff.core.report import MetricValue
from feinschliff.report.terminal import metric_cell, show


def printed(report, width=170):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    show(report, console)
    return console.file.getvalue()


def test_leaderboard_has_every_arm_and_number(report):
    text = printed(report)
    for arm in report.arms:
        assert text.count(arm.name) >= 3
        assert f"{arm.metrics['execution'].value:.3f} ±" in text
    assert "part composed: 60 questions" in text
    assert "verdict: fine tune" in text
    assert "3,874" in text or "never" in text
    assert "(1 failed)" in text


def test_square_brackets_in_names_are_text_not_markup(report):
    odd = report.model_copy(update={"verdict": report.verdict.model_copy(update={"headline": "[/red] odd [bold]"})})
    assert "[/red] odd [bold]" in printed(odd)


def test_narrow_terminals_keep_the_verdict(report):
    assert "verdict: fine tune" in printed(report, width=60)


def test_eighty_columns_keep_arm_names_whole_and_all_numbers(report):
    text = printed(report, width=80)
    for arm in report.arms:
        assert sum(line.startswith(arm.name + " ") for line in text.splitlines()) == 2 + len(report.held_out.parts)
        assert f"{arm.metrics['execution'].value:.3f}" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "±" not in text
    assert "3,874" in text


def test_intervals_are_there_where_they_fit(report):
    text = printed(report, width=120)
    assert "0.750 ±0.058" in text
    assert max(map(len, text.splitlines())) <= 120


def test_unscored_metric_is_a_dash():
    assert metric_cell(MetricValue(value=0, low=0, high=1, n=0, n_failed=3)) == "–"

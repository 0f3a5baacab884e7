"""The leaderboard in the terminal."""
import io

from rich.console import Console
from sample import with_trainings

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


def test_seeds_and_curve_are_shown_where_there_are_some(report):
    assert "seed" not in printed(report)
    for width in (170, 80):
        text = printed(with_trainings(report), width=width)
        assert "3 seeds: execution on ordinary" in text
        assert "seed 0 was chosen for use, by its validation loss." in " ".join(text.split())
        assert "0 (chosen)" in text
        assert "learning curve of tuned: execution on" in text
        assert "1,180" in text
        assert "The score still rose at the last step" in " ".join(text.split())
        assert max(map(len, text.splitlines())) <= width


def test_many_seeds_fit_a_narrow_terminal(report):
    text = printed(with_trainings(report, n_seeds=20), width=80)
    assert "\n19 " in text
    assert max(map(len, text.splitlines())) <= 80

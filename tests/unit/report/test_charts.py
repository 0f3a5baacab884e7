"""The drawn figures."""
import re
import xml.etree.ElementTree as ET

import pytest
from sample import with_trainings

from feinschliff.report import charts


@pytest.fixture(scope="module")
def figures(study_result):
    return charts.figures(study_result[0])


def test_one_figure_per_grader_and_three_more(figures):
    assert [f.key for f in figures] == [
        "quality-execution", "quality-gql_syntax", "quality-chrf", "differences", "loss", "trade"
    ]  # fmt: skip


def test_svgs_parse_and_take_their_colours_from_the_page(figures):
    for figure in figures:
        for svg in (figure.wide, figure.narrow):
            ET.fromstring(svg)
            assert "var(--ink)" in svg or "var(--muted)" in svg
            assert not re.search(r"#0[1-6]0[1-6]0[1-6]", svg)


def test_narrow_figures_fit_a_telephone(figures):
    for figure in figures:
        assert float(re.search(r'width="([\d.]+)"', figure.narrow)[1]) <= 380


def test_every_arm_and_the_goal_are_drawn(figures, report):
    quality = figures[0].wide
    for arm in report.arms:
        assert arm.name in quality
        assert f"{arm.metrics['execution'].value:.2f}" in quality
    assert "var(--goal)" in quality
    assert "var(--goal)" not in figures[1].wide


def test_the_learning_curve_has_its_points_intervals_and_goal(report):
    curve = next(f for f in charts.figures(with_trainings(report)) if f.key == "curve")
    for svg in (curve.wide, curve.narrow):
        ET.fromstring(svg)
        assert "var(--goal)" in svg
        for point in with_trainings(report).learning_curve.points:
            assert f"{point.metric.value:.2f}" in svg
    assert float(re.search(r'width="([\d.]+)"', curve.narrow)[1]) <= 380
    assert "1,180 examples" in curve.alt

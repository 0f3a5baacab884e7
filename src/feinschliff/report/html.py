"""`report.html`: one self-contained page of a study. No network, no fonts to fetch; readable without JavaScript."""
import base64
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from feinschliff.catalog.prices import money
from feinschliff.core.errors import MissingExtra
from feinschliff.core.report import Answer, ArmReport, Decision, Report
from feinschliff.evals.compare import find, is_tuned
from feinschliff.evals.facts import TESTS, break_even_text, p_text
from feinschliff.report import charts

Outcome = Literal["win", "loss", "both right", "both wrong", "unscored"]
MAX_ROWS = 400  # per arm on the page; report.json's sibling files hold all answers
DECISIONS: Mapping[Decision, str] = {
    "fine_tune": "Fine-tune",
    "improve_prompt": "Improve the prompt first",
    "more_data": "Collect more or better data",
    "stop": "Stop: no need to fine-tune",
}


@dataclass(frozen=True, slots=True)
class Side:
    """One held-out question with this arm's answer and the best untuned arm's (None where that isn't at hand)."""

    answer: Answer
    rival: Answer | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ArmPage:
    arm: ArmReport
    tuned: bool
    sides: tuple[Side, ...]
    counts: Mapping[Outcome, int]
    n_hidden: int


def write_html(report: Report, path: Path, *, answers: Mapping[str, Sequence[Answer]] | None = None) -> None:
    """Writes the page atomically. `answers` (arm → its held-out answers) gives wins and losses side by side; without them
    only each arm's worst answers are shown. Without altair and vl-convert the page has a note in place of the charts.
    """
    text = page(report, answers=answers)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)  # mkstemp makes it private; a report is to be passed on
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def page(report: Report, *, answers: Mapping[str, Sequence[Answer]] | None = None) -> str:
    """The whole page as text; every value that comes from a study is escaped."""
    environment = Environment(
        loader=PackageLoader("feinschliff.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"num": number, "p": p_text, "points": points, "coded": coded}
    try:
        drawn, note = charts.figures(report), ""
    except MissingExtra as missing:
        drawn, note = (), f"No charts: {missing.message} {missing.hint}"
    script = _source(environment, "report.js")
    return environment.get_template("report.html.j2").render(
        r=report,
        decision=DECISIONS[report.verdict.decision],
        figures=drawn,
        figure_note=note,
        pages=[_arm_page(report, arm, answers) for arm in report.arms],
        graders=list(report.arms[0].metrics) if report.arms else [],
        parts=list(report.held_out.parts),
        best={arm.name for arm in report.arms if arm.name in (report.best_untuned, report.best_tuned)},
        is_tuned=is_tuned,
        break_even=break_even_text,
        money=money,
        tests=TESTS,
        goal_comparison={
            a.name: find(report.comparisons, a.name, report.goal_grader, report.goal_part) for a in report.arms
        },
        style=Markup(_source(environment, "report.css")),  # our own file
        script=Markup(script),  # our own file
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        markup=Markup,
    )


def number(value: float | None, digits: int = 3) -> str:
    """A dash for what was not measured; thousands set apart."""
    return "–" if value is None else f"{value:,.{digits}f}"


def points(value: float) -> str:
    """A difference of shares in percentage points with its sign."""
    return f"{value * 100:+.1f}".replace("-", "−")


def coded(text: str) -> Markup:
    """Escaped text in which `backticks` become code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(pieces))


def _source(environment: Environment, name: str) -> str:
    loader = environment.loader
    assert loader is not None
    return loader.get_source(environment, name)[0]


def _arm_page(report: Report, arm: ArmReport, answers: Mapping[str, Sequence[Answer]] | None) -> ArmPage:
    """Wins and losses first, as they say the most, then the questions that both got wrong."""
    found = (answers or {}).get(arm.name, arm.worst)
    untuned = next((a for a in report.arms if a.name == report.best_untuned), None)
    others = (answers or {}).get(report.best_untuned, untuned.worst if untuned else ())
    rivals = {a.example_id: a for a in others} if arm.name != report.best_untuned else {}
    sides = [_side(a, rivals.get(a.example_id)) for a in found]
    order: tuple[Outcome, ...] = ("loss", "win", "both wrong", "unscored", "both right")
    sides.sort(key=lambda s: order.index(s.outcome))
    counts: dict[Outcome, int] = {o: n for o in order if (n := sum(s.outcome == o for s in sides))}
    return ArmPage(arm, is_tuned(arm.name), tuple(sides[:MAX_ROWS]), counts, max(0, len(sides) - MAX_ROWS))


def _side(answer: Answer, rival: Answer | None) -> Side:
    ours, theirs = answer.score, rival.score if rival else answer.score
    outcome: Outcome
    if ours is None or theirs is None:
        outcome = "unscored"
    elif ours != theirs:
        outcome = "win" if ours > theirs else "loss"
    else:
        outcome = "both right" if ours >= 1 else "both wrong"
    return Side(answer, rival, outcome)

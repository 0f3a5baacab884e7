"""The report's charts: Altair definitions, rendered to inline SVG without a browser or a network.

Colours are placeholders in the definitions and become CSS variables in the SVG, so that a chart follows the page into
dark mode and onto paper. Each chart is drawn twice, for wide and for narrow screens, since text in an SVG shrinks with it.
"""
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from types import ModuleType
from typing import TYPE_CHECKING

from feinschliff.core.errors import MissingExtra
from feinschliff.core.report import ArmReport, LearningCurve, MetricValue, Report, TrainingReport
from feinschliff.evals.compare import is_tuned

if TYPE_CHECKING:
    import altair

INK, MUTED, LINE, UNTUNED, TUNED, GOAL = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", UNTUNED: "--untuned", TUNED: "--tuned", GOAL: "--goal"}
WIDE_PX, HALF_PX, NARROW_PX = 780, 300, 215  # of the plotting area; names and margins come on top
WHOLE_NAME = "all held-out questions"


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart as two SVG texts, with its title and what a reader who cannot see it should know."""

    key: str
    title: str
    caption: str
    alt: str
    wide: str
    narrow: str
    half: bool  # takes half of the page's width


Row = dict[str, str | float]
Draw = Callable[[int], "altair.TopLevelMixin"]


def figures(report: Report) -> tuple[Figure, ...]:
    """All charts of a report. Raises MissingExtra where altair or vl-convert is not installed."""
    alt, render = _load()
    made = [_quality(alt, render, report, grader) for grader in report.arms[0].metrics] if report.arms else []
    if report.comparisons:
        made.append(_differences(alt, render, report))
    if report.training is not None and report.training.losses:
        made.append(_loss(alt, render, report.training))
    if report.learning_curve is not None:
        made.append(_curve(alt, render, report, report.learning_curve))
    if report.arms:
        made.append(_trade(alt, render, report))
    return tuple(made)


Render = Callable[[Draw, int], str]


def _load() -> tuple[ModuleType, Render]:
    try:
        import altair
        import vl_convert
    except ImportError as missing:
        raise MissingExtra(missing.name or "altair", extra="report", feature="A report with charts") from missing
    number = count()

    def render(draw: Draw, width: int) -> str:
        chart = draw(width).to_dict(validate=False)  # the definitions are ours, and validating takes longer than drawing
        chart["config"] = _CONFIG
        return _themed(vl_convert.vegalite_to_svg(chart), f"f{next(number)}")

    return altair, render


_FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"
_CONFIG: dict[str, object] = {
    "background": None,
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED, "titleColor": MUTED, "gridColor": LINE, "domainColor": LINE, "tickColor": LINE, "labelFontSize": 12,
        "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 220, "titlePadding": 10,
    },
    "axisY": {"domain": False, "ticks": False, "labelPadding": 8},
    "legend": {"labelColor": MUTED, "titleColor": MUTED, "labelFontSize": 12, "orient": "top", "title": None, "symbolSize": 80},
    "header": {"labelColor": INK, "labelFontSize": 12.5, "labelFontWeight": 600, "labelAnchor": "start", "title": None},
    "text": {"color": INK, "font": _FONT},
}  # fmt: skip


def _themed(svg: str, prefix: str) -> str:
    """Placeholders become CSS variables; ids get a prefix, because several SVGs share the page; the size becomes the CSS's matter."""
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    svg = re.sub(r"<svg ", '<svg aria-hidden="true" focusable="false" ', svg, count=1)
    # Marks announce every datum to a screen reader; the figure's one label and the tables say it better.
    return re.sub(r' (?:role="[^"]*"|aria-(?:label|roledescription)="[^"]*")', "", svg)


def _drawn(render: Render, draw: Draw, *, key: str, title: str, caption: str, alt: str, half: bool = False) -> Figure:
    return Figure(key, title, caption, alt, render(draw, HALF_PX if half else WIDE_PX), render(draw, NARROW_PX), half)


def _side(arm: str) -> str:
    return "tuned" if is_tuned(arm) else "untuned"



def _colour(alt: ModuleType) -> "altair.Color":
    return alt.Color("side:N", scale=alt.Scale(domain=["untuned", "tuned"], range=[UNTUNED, TUNED]))


def _arm_axis(alt: ModuleType, names: Sequence[str], width: int) -> "altair.Y":
    """Arms from top to bottom in the study's order; on narrow screens, long names stand on several lines."""
    label = "datum.label" if width != NARROW_PX else "split(replace(datum.label, /\\+/g, '|+ '), '|')"
    return alt.Y("arm:N", sort=list(names), title=None, axis=alt.Axis(labelExpr=label, grid=True, labelLineHeight=14))


def _step(names: Sequence[str], width: int) -> int:
    """Pixels per arm: enough lines for the longest recipe."""
    lines = 1 if width != NARROW_PX else max((name.count("+") + 1 for name in names), default=1)
    return max(34, 15 * lines + 8)


def _quality(alt: ModuleType, render: Render, report: Report, grader: str) -> Figure:
    places: list[tuple[str, Callable[[ArmReport], MetricValue]]] = [(WHOLE_NAME, lambda a: a.metrics[grader])]
    for part in report.held_out.parts:
        places.append((f"part: {part}", lambda a, part=part: a.parts[part][grader]))
    names = [a.name for a in report.arms]
    rows: list[Row] = []
    for place, metric in places:
        for a in report.arms:
            m = metric(a)
            if m.n:
                rows.append({"place": place, "arm": a.name, "side": _side(a.name), "value": m.value, "low": m.low, "high": m.high,
                             "text": f"{m.value:.2f}"})  # fmt: skip
    unit = all(float(r["low"]) >= 0 and float(r["high"]) <= 1 for r in rows)
    goal_place = f"part: {report.goal_part}" if report.goal_part else WHOLE_NAME
    goal = report.goal_at_least if grader == report.goal_grader else None

    def draw(width: int) -> "altair.TopLevelMixin":
        x = alt.X("value:Q", title=None, scale=alt.Scale(domain=[0, 1]) if unit else alt.Undefined, axis=alt.Axis(tickCount=5))
        base = alt.Chart().encode(y=_arm_axis(alt, names, width), color=_colour(alt))
        layers = [
            base.mark_rule(strokeWidth=2.5, strokeCap="round").encode(x=alt.X("low:Q", title=None), x2="high:Q"),
            base.mark_point(filled=True, size=70, opacity=1).encode(x=x),
            base.mark_text(dy=-10, fontSize=11, color=INK).encode(x="value:Q", text="text:N", color=alt.value(INK)),
        ]
        if goal is not None:
            rule = alt.Chart().mark_rule(strokeDash=[5, 4], strokeWidth=1.5, color=GOAL)
            layers.append(rule.transform_filter(alt.datum.place == goal_place).encode(x=alt.datum(goal)))
        panel = alt.layer(*layers).properties(width=_panel(width, len(places)), height={"step": _step(names, width)})
        if len(places) == 1:
            return panel.properties(data=alt.Data(values=rows))
        faceted = panel.facet(
            facet=alt.Facet("place:N", sort=[p for p, _ in places], title=None), columns=1 if width == NARROW_PX else min(3, len(places)),
            data=alt.Data(values=rows),
        )  # fmt: skip
        return faceted.properties(spacing=26)

    best = max(report.arms, key=lambda a: a.metrics[grader].value)
    note = " The dashed line is the goal." if goal is not None else ""
    return _drawn(
        render, draw, key=f"quality-{grader}", title=f"{grader} by arm",
        caption=f"Dots are means, bars 95 % intervals.{note}",
        alt=f"Dot chart of {grader} with 95 % intervals for {len(names)} arms; highest on the whole held-out set: "
        f"{best.name} at {best.metrics[grader].value:.2f}. The leaderboard has the numbers.",
    )  # fmt: skip


def _panel(width: int, panels: int) -> int:
    """The width of one of several panels side by side (at most three); narrow screens stack them."""
    return width if width == NARROW_PX else (width - 20 * (panels - 1)) // min(3, panels)


def _differences(alt: ModuleType, render: Render, report: Report) -> Figure:
    chosen = [c for c in report.comparisons if c.grader == report.goal_grader and c.part == report.goal_part and c.n]
    rows: list[Row] = [
        {"arm": c.arm, "side": _side(c.arm), "value": c.difference, "low": c.low, "high": c.high, "text": f"{c.difference:+.2f}"}
        for c in chosen
    ]
    names = [c.arm for c in chosen]
    reach = max([0.1, *(abs(float(r[k])) for r in rows for k in ("low", "high"))]) * 1.05

    def draw(width: int) -> "altair.TopLevelMixin":
        base = alt.Chart().encode(y=_arm_axis(alt, names, width), color=_colour(alt))
        x = alt.X("value:Q", title="difference", scale=alt.Scale(domain=[-reach, reach]), axis=alt.Axis(format="+.1f", tickCount=5))
        return alt.layer(
            alt.Chart().mark_rule(color=MUTED, strokeWidth=1.2).encode(x=alt.datum(0)),
            base.mark_rule(strokeWidth=2.5, strokeCap="round").encode(x="low:Q", x2="high:Q"),
            base.mark_point(filled=True, size=70, opacity=1).encode(x=x),
            base.mark_text(dy=-10, fontSize=11).encode(x="value:Q", text="text:N", color=alt.value(INK)),
            data=alt.Data(values=rows),
        ).properties(width=width, height={"step": _step(names, width)})

    place = f" on part {report.goal_part}" if report.goal_part else ""
    said = "; ".join(f"{c.arm} {c.difference:+.2f} ({c.low:+.2f} to {c.high:+.2f})" for c in chosen)
    return _drawn(
        render, draw, key="differences", title=f"Paired difference to {report.best_untuned}",
        caption=f"{report.goal_grader}{place}, the same questions on both sides, 95 % intervals. Right of 0: better.",
        alt=f"Dot chart of paired differences in {report.goal_grader}{place} to {report.best_untuned}: {said}.", half=True,
    )  # fmt: skip


def _trade(alt: ModuleType, render: Render, report: Report) -> Figure:
    def metric(a: ArmReport) -> float:
        return (a.parts[report.goal_part] if report.goal_part else a.metrics)[report.goal_grader].value

    rows: list[Row] = []
    for a in report.arms:
        places = {"input + output tokens per request": a.input_tokens + a.output_tokens, "latency p50, ms": a.latency_ms.p50}
        rows += [{"kind": k, "arm": a.name, "side": _side(a.name), "x": x, "y": metric(a)} for k, x in places.items() if x is not None]
    kinds = list(dict.fromkeys(str(r["kind"]) for r in rows))

    def draw(width: int) -> "altair.TopLevelMixin":
        panels = []
        for kind in kinds:
            placed = _label_places([r for r in rows if r["kind"] == kind])
            base = alt.Chart(alt.Data(values=placed)).encode(
                x=alt.X("x:Q", title=kind, scale=alt.Scale(zero=False, padding=14), axis=alt.Axis(tickCount=4, grid=False)),
                y=alt.Y("y:Q", title=None, scale=alt.Scale(zero=True, padding=14), axis=alt.Axis(tickCount=5)),
            )
            named = base.transform_calculate(label="replace(datum.arm, /\\+/g, '|+ ')").encode(text="label:N")
            layers = [base.mark_point(filled=True, size=90, opacity=1).encode(color=_colour(alt))]
            for side, lift in sorted({(str(r["align"]), float(r["lift"])) for r in placed}):
                chosen = named.transform_filter((alt.datum.align == side) & (alt.datum.lift == lift))
                dx = -9 if side == "right" else 9
                layers.append(chosen.mark_text(fontSize=11, lineBreak="|", baseline="middle", align=side, dx=dx, dy=lift))
            panels.append(alt.layer(*layers).properties(width=_panel(width, len(kinds)), height=250))
        return alt.concat(*panels, columns=1 if width == NARROW_PX else 2, spacing=36)

    return _drawn(
        render, draw, key="trade", title="Quality against tokens and waiting time",
        caption=f"{report.goal_grader}{f' on part {report.goal_part}' if report.goal_part else ''}; up and to the left is better.",
        alt=f"Scatter charts of {report.goal_grader} against {' and '.join(kinds)}, one dot per arm; numbers are in the leaderboard.",
    )  # fmt: skip


def _label_places(rows: list[Row]) -> list[Row]:
    """Names stand towards the middle; of two arms that would be written over each other the upper one's name is lifted (pixels)."""
    xs, ys = [float(r["x"]) for r in rows], [float(r["y"]) for r in rows]
    width, height = max(xs) - min(xs) or 1.0, max(ys) - min(ys) or 1.0

    def lift(i: int) -> float:
        near = [j for j in range(len(rows)) if j != i and abs(xs[i] - xs[j]) < 0.35 * width and abs(ys[i] - ys[j]) < 0.08 * height]
        above = sum((ys[j], j) < (ys[i], i) for j in near)
        return 9.0 - 18.0 * min(1, above) if near else 0.0

    middle = (min(xs) + max(xs)) / 2
    return [{**r, "align": "right" if x > middle else "left", "lift": lift(i)} for i, (r, x) in enumerate(zip(rows, xs, strict=True))]


def _loss(alt: ModuleType, render: Render, training: TrainingReport) -> Figure:
    rows: list[Row] = [{"step": s, "loss": v, "kind": "training"} for s, v in training.losses]
    rows += [{"step": s, "loss": v, "kind": "validation"} for s, v in training.valid_losses]

    def draw(width: int) -> "altair.TopLevelMixin":
        scale = alt.Scale(domain=["training", "validation"], range=[UNTUNED, TUNED])
        base = alt.Chart().encode(
            x=alt.X("step:Q", title="optimizer step", axis=alt.Axis(grid=False, tickCount=6)),
            y=alt.Y("loss:Q", title="loss (nats per trained token)", axis=alt.Axis(tickCount=5)),
            color=alt.Color("kind:N", scale=scale),
        )
        seen = base.transform_filter(alt.datum.kind == "validation")
        return alt.layer(
            base.transform_filter(alt.datum.kind == "training").mark_line(strokeWidth=1.6),
            seen.mark_line(strokeWidth=1.6, strokeDash=[4, 3]),
            seen.mark_point(filled=True, size=60, opacity=1),
            data=alt.Data(values=rows),
        ).properties(width=width + (0 if width == NARROW_PX else 90), height=240)

    last = "" if training.valid_loss is None else f"; last validation loss {training.valid_loss:.3f}"
    said = f"from {training.first_train_loss:.2f} to {training.last_train_loss:.3f} over {training.steps} steps{last}"
    return _drawn(
        render, draw, key="loss", title="Training loss", caption=f"Training loss {said}.", half=True,
        alt=f"Line chart of the training loss {said}.",
    )  # fmt: skip


def _curve(alt: ModuleType, render: Render, report: Report, curve: LearningCurve) -> Figure:
    rows: list[Row] = [
        {"n": p.n_examples, "value": p.metric.value, "low": p.metric.low, "high": p.metric.high, "text": f"{p.metric.value:.2f}"}
        for p in curve.points
    ]

    def draw(width: int) -> "altair.TopLevelMixin":
        base = alt.Chart().encode(x=alt.X("n:Q", title="training examples", scale=alt.Scale(zero=True), axis=alt.Axis(grid=False, tickCount=5)))
        y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5))
        layers = [
            base.mark_line(strokeWidth=1.6, color=TUNED).encode(y=y),
            base.mark_rule(strokeWidth=2.5, strokeCap="round", color=TUNED).encode(y=alt.Y("low:Q", title=None), y2="high:Q"),
            base.mark_point(filled=True, size=70, opacity=1, color=TUNED).encode(y=y),
            base.mark_text(align="left", dx=8, dy=12, fontSize=11).encode(y=y, text="text:N", color=alt.value(INK)),
        ]
        if report.goal_at_least is not None:
            layers.append(alt.Chart().mark_rule(strokeDash=[5, 4], strokeWidth=1.5, color=GOAL).encode(y=alt.datum(report.goal_at_least)))
        return alt.layer(*layers, data=alt.Data(values=rows)).properties(width=width + (0 if width == NARROW_PX else 90), height=240)

    said = "; ".join(f"{p.n_examples:,} examples {p.metric.value:.2f} ({p.metric.low:.2f} to {p.metric.high:.2f})" for p in curve.points)
    return _drawn(
        render, draw, key="curve", title="Learning curve", half=True,
        caption=f"{report.goal_grader} of {curve.arm} by the number of training examples; bars are 95 % intervals, the dashed line is the goal.",
        alt=f"Line chart of {report.goal_grader} by the number of training examples: {said}.",
    )  # fmt: skip

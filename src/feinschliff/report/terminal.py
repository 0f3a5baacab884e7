"""The study's result in the terminal: a leaderboard and the verdict."""
from collections.abc import Iterator

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from feinschliff.catalog.prices import money
from feinschliff.core.report import ArmReport, Decision, LearningCurve, MetricValue, Report, SeedReport
from feinschliff.evals.compare import find, is_tuned
from feinschliff.evals.facts import break_even_text, p_text

COLOURS: dict[Decision, str] = {"fine_tune": "green", "improve_prompt": "yellow", "more_data": "yellow", "stop": "red"}

ARM_WIDTH = 14  # an arm's name is never folded narrower; it breaks at any letter otherwise


def show(report: Report, console: Console) -> None:
    """Prints the leaderboard, the parts, what the arms cost, and the verdict; without intervals where they do not fit."""
    unbounded = console.options.update(max_width=1000)
    briefly = console.measure(leaderboard(report), options=unbounded).maximum > console.width
    console.print(leaderboard(report, briefly=briefly))
    for table in part_tables(report, briefly=briefly):
        console.print(table)
    console.print(cost_table(report, briefly=briefly))
    if report.seed_runs is not None:
        console.print(seed_table(report, report.seed_runs, briefly=briefly))
        how = "by its validation loss" if report.seed_runs.chosen_by == "validation_loss" else "as the first"
        console.print(f"The numbers above are over all seeds; seed {report.seed_runs.chosen} was chosen for use, {how}.", highlight=False)
    if report.hosted:
        console.print(hosted_table(report, briefly=briefly))
    if report.learning_curve is not None:
        console.print(curve_table(report, report.learning_curve, briefly=briefly))
        console.print(Text(report.learning_curve.sentence.replace("`", "")))
    if briefly:
        console.print("A wider terminal, and report.html, show the 95 % intervals too.", style="dim", highlight=False)
    console.print(verdict_panel(report))


def leaderboard(report: Report, *, briefly: bool = False) -> Table:
    """Arms × metrics on the whole held-out set, and the goal's difference to the best untuned arm. That one and the best
    tuned one are bold. `briefly` leaves out the intervals.
    """
    place = f" on {report.goal_part}" if report.goal_part else ""
    table = _table(f"{report.study}: {report.held_out.n} held-out questions, sha256 {report.held_out.sha256[:12]}…", briefly)
    for grader in _graders(report):
        table.add_column(escape(grader), justify="right", overflow="fold")
    table.add_column(f"difference{escape(place)}", justify="right", min_width=15, overflow="fold")
    for arm in report.arms:
        metrics = [metric_cell(arm.metrics[g], briefly=briefly) for g in _graders(report)]
        table.add_row(_name(arm, report), *metrics, _difference(arm, report))
    return table


def part_tables(report: Report, *, briefly: bool = False) -> Iterator[Table]:
    """One table for each part of the held-out set."""
    for part, n in report.held_out.parts.items():
        table = _table(f"part {escape(part)}: {n} questions", briefly)
        for grader in _graders(report):
            table.add_column(escape(grader), justify="right", overflow="fold")
        for arm in report.arms:
            table.add_row(_name(arm, report), *(metric_cell(arm.parts[part][g], briefly=briefly) for g in _graders(report)))
        yield table


def cost_table(report: Report, *, briefly: bool = False) -> Table:
    """What a request takes: tokens, time and money; and from how many requests on training pays."""
    currency = "/".join(dict.fromkeys(arm.cost.currency for arm in report.arms))
    table = _table("per request", briefly)
    for name in ("tokens in/out", "p50/p95 ms", f"{escape(currency)} per 1,000", "break-even"):
        table.add_column(name, justify="right")
    for arm in report.arms:
        table.add_row(_name(arm, report), *_numbers(arm, report))
    return table


def seed_table(report: Report, seeds: SeedReport, *, briefly: bool = False) -> Table:
    """Each training's result by the goal's grader on its part, and what they vary by."""
    table = _table(f"{len(seeds.runs)} seeds: {_goal(report)}", briefly, first="seed")
    spreads = [s for s in seeds.spreads if (s.grader, s.part) == (report.goal_grader, report.goal_part)]
    table.add_column("validation loss", justify="right")
    for spread in spreads:
        table.add_column(escape(spread.arm), justify="right", overflow="fold")
    for n, run in enumerate(seeds.runs):
        mark = " (chosen)" if run.seed == seeds.chosen else ""
        loss = "–" if run.valid_loss is None else f"{run.valid_loss:.3f}"
        table.add_row(f"{run.seed}{mark}", loss, *(f"{spread.values[n]:.3f}" for spread in spreads), end_section=n == len(seeds.runs) - 1)
    table.add_row("deviation", "", *(f"{spread.deviation:.3f}" for spread in spreads))
    return table


def hosted_table(report: Report, *, briefly: bool = False) -> Table:
    """What was asked of each provider for this study, and what it came to."""
    table = _table("asked elsewhere", briefly, first="model")
    for name in ("region", "requests", "tokens in/out", "trained tokens", "answers", "training"):
        table.add_column(name, justify="right", overflow="fold")
    for host in report.hosted:
        sums = ["not known" if m is None else f"{money(m)} {host.currency}" for m in (host.answers_money, host.training_money)]
        tokens = f"{host.input_tokens:,}/{host.output_tokens:,}"
        table.add_row(*map(escape, (host.tuned_model or host.model, host.region, f"{host.requests:,}", tokens, f"{host.trained_tokens:,}", *sums)))
    return table


def curve_table(report: Report, curve: LearningCurve, *, briefly: bool = False) -> Table:
    """The score by the size of the training data."""
    table = _table(f"learning curve of {escape(curve.arm)}: {_goal(report)}", briefly, first="share of data")
    for name in ("examples", escape(report.goal_grader), "validation loss"):
        table.add_column(name, justify="right")
    for point in curve.points:
        loss = "–" if point.valid_loss is None else f"{point.valid_loss:.3f}"
        table.add_row(f"{point.share:g}", f"{point.n_examples:,}", metric_cell(point.metric), loss)
    return table


def _goal(report: Report) -> str:
    return escape(report.goal_grader + (f" on {report.goal_part}" if report.goal_part else ""))


def verdict_panel(report: Report) -> RenderableType:
    """Headline and reasons, in the decision's colour."""
    reasons = [Padding(Text(f"• {reason.replace('`', '')}"), (0, 0, 0, 1)) for reason in report.verdict.reasons]
    headline = Text(report.verdict.headline.replace("`", ""), style="bold")
    title = f"verdict: {report.verdict.decision.replace('_', ' ')}"
    return Panel(Group(headline, Text(""), *reasons), title=title, border_style=COLOURS[report.verdict.decision], padding=(1, 2))


def metric_cell(m: MetricValue, *, briefly: bool = False) -> str:
    """E.g. "0.812 ±0.047"; the longer arm of the interval, as intervals need not be symmetric."""
    if not m.n:
        return "–"
    failed = f"\n[yellow]({m.n_failed} failed)[/]" if m.n_failed else ""
    interval = "" if briefly else f" [dim]±{max(m.high - m.value, m.value - m.low):.3f}[/]"
    return f"{m.value:.3f}{interval}{failed}"


def _table(title: str, briefly: bool, first: str = "arm") -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", expand=False)
    if briefly:  # every column that a border would take is a letter of an arm's name
        table.box, table.padding, table.pad_edge, table.show_edge = box.SIMPLE_HEAD, (0, 1, 0, 0), False, False
    table.add_column(first, overflow="fold", min_width=ARM_WIDTH)
    return table


def _graders(report: Report) -> list[str]:
    return list(report.arms[0].metrics) if report.arms else []


def _name(arm: ArmReport, report: Report) -> str:
    colour = "cyan" if is_tuned(arm.name) else "default"
    bold = "bold " if arm.name in (report.best_untuned, report.best_tuned) else ""
    return f"[{bold}{colour}]{escape(arm.name)}[/]"


def _difference(arm: ArmReport, report: Report) -> str:
    c = find(report.comparisons, arm.name, report.goal_grader, report.goal_part)
    if c is None:
        return "[dim]baseline[/]" if arm.name == report.best_untuned else "–"
    return f"{c.difference * 100:+.1f} pt [dim]{p_text(c.p_adjusted).replace(' ', '')}[/]"


def _numbers(arm: ArmReport, report: Report) -> tuple[str, str, str, str]:
    latency, cost = arm.latency_ms, arm.cost
    return (
        f"{arm.input_tokens:,.0f}/{arm.output_tokens:,.0f}",
        "–" if latency.p50 is None or latency.p95 is None else f"{latency.p50:,.0f}/{latency.p95:,.0f}",
        "–" if cost.per_request is None else f"{cost.per_request * 1000:,.3f}",
        break_even_text(report, arm),
    )

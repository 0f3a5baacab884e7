"""What a verdict rests on, and how its numbers are put into words."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from feinschliff.core.findings import CheckReport
from feinschliff.core.report import (
    Answer,
    ArmReport,
    Comparison,
    HeldOut,
    LearningCurve,
    MetricValue,
    Report,
    SeedReport,
    SplitReport,
    Spread,
)
from feinschliff.core.study import Study, ingredients
from feinschliff.evals.compare import WHOLE, find, is_tuned
from feinschliff.evals.stats import ALPHA

ENGINEERED = ("prompt", "few_shot", "retrieval")
TESTS: Mapping[str, str] = {
    "mcnemar_exact": "exact McNemar",
    "paired_bootstrap": "paired bootstrap",
    "crossed_t": "t over questions and seeds",
}
SMALL_TRAINING_SET = 200  # examples; below it, "it did not help" says more about the data than about tuning


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a verdict rests on. `best_untuned`/`best_tuned` are arm names, None where no such arm ran.

    `check` (of the data files) and `answers` (arm → all its held-out answers) make the record fuller where given.
    """

    study: Study
    held_out: HeldOut
    split: SplitReport
    arms: Sequence[ArmReport]
    comparisons: Sequence[Comparison]
    best_untuned: str | None
    best_tuned: str | None
    check: CheckReport | None = None
    answers: Mapping[str, Sequence[Answer]] = field(default_factory=dict)
    seeds: SeedReport | None = None
    curve: LearningCurve | None = None

    @property
    def goal_part(self) -> str:
        return self.study.goal.part or WHOLE

    def arm(self, name: str) -> ArmReport:
        return next(a for a in self.arms if a.name == name)

    def goal_metric(self, name: str) -> MetricValue:
        """An arm's metric by the goal's grader on the goal's part."""
        arm = self.arm(name)
        return (arm.parts[self.goal_part] if self.goal_part else arm.metrics)[self.study.goal.grader]

    def reaches(self, name: str) -> bool:
        metric = self.goal_metric(name)
        return metric.n > 0 and metric.value >= self.study.goal.at_least

    def comparison(self, name: str) -> Comparison | None:
        return find(self.comparisons, name, self.study.goal.grader, self.goal_part)

    def better(self, name: str) -> bool:
        """Significantly better than the best untuned arm, after Holm's adjustment."""
        c = self.comparison(name)
        return c is not None and c.difference > 0 and c.p_adjusted < ALPHA

    def regressions(self, name: str) -> tuple[Comparison, ...]:
        """Where a tuned arm falls below the best untuned one by more than the margin, on the whole set or the goal's part."""
        parts = dict.fromkeys((WHOLE, self.goal_part))
        found = [find(self.comparisons, name, g, part) for g in self.study.goal.not_worse for part in parts]
        return tuple(c for c in found if c is not None and c.difference < -self.study.goal.margin)

    def spread(self, name: str) -> Spread | None:
        """A tuned arm's values seed by seed, by the goal's grader on the goal's part."""
        wanted = (name, self.study.goal.grader, self.goal_part)
        spreads = self.seeds.spreads if self.seeds else ()
        return next((s for s in spreads if (s.arm, s.grader, s.part) == wanted), None)

    @property
    def tuned(self) -> tuple[str, ...]:
        """Tuned arms, the best by the goal first."""
        names = [a.name for a in self.arms if is_tuned(a.name)]
        return tuple(sorted(names, key=lambda a: (a != self.best_tuned, -self.goal_metric(a).value)))

    @property
    def engineered(self) -> frozenset[str]:
        """Which of prompt, few-shot and retrieval some untuned arm has used."""
        return frozenset(i for a in self.arms if not is_tuned(a.name) for i in ingredients(a.name) if i in ENGINEERED)


def metric_text(m: MetricValue) -> str:
    """E.g. "0.812 (95 % interval 0.760–0.855, n = 240)"."""
    failed = f", {m.n_failed} grader failures" if m.n_failed else ""
    runs = f", {m.n_runs} seeds" if m.n_runs > 1 else ""
    return f"{m.value:.3f} (95 % interval {m.low:.3f}–{m.high:.3f}, n = {m.n}{runs}{failed})" if m.n else f"nothing scored{failed}"


def describe(facts: Facts, arm: str) -> str:
    return f"`{arm}` with {facts.study.goal.grader} {metric_text(facts.goal_metric(arm))}"


def goal_text(facts: Facts) -> str:
    goal = facts.study.goal
    return f"{goal.grader} at least {goal.at_least:g}" + (f" on part `{goal.part}`" if goal.part else "")


def difference_text(c: Comparison) -> str:
    """E.g. "`tuned` − `prompt` by execution: +41.2 points (34.0 to 48.1), 102 wins, 3 losses, adjusted p < 0.001 (exact McNemar)"."""
    place = f" on `{c.part}`" if c.part else ""
    return (
        f"`{c.arm}` − `{c.baseline}` by {c.grader}{place}: {c.difference * 100:+.1f} points "
        f"({c.low * 100:+.1f} to {c.high * 100:+.1f}), {c.wins} wins, {c.losses} losses, adjusted {p_text(c.p_adjusted)} ({TESTS[c.test]})"
    )


def spread_text(spread: Spread, seeds: SeedReport) -> str:
    """E.g. "0.781 (seed 0), 0.812 (seed 1, chosen), 0.774 (seed 2); standard deviation 0.020"."""
    said = [
        f"{value:.3f} (seed {run.seed}{', chosen' if run.seed == seeds.chosen else ''})"
        for value, run in zip(spread.values, seeds.runs, strict=True)
    ]
    return f"{', '.join(said)}; standard deviation {spread.deviation:.3f}"


def break_even_text(report: Report, arm: ArmReport) -> str:
    """Requests, "never", or a dash for untuned arms and where prices do not say."""
    rival = next((a.cost for a in report.arms if a.name == report.best_untuned), None)
    unpriced = arm.cost.per_request is None or (rival is not None and (rival.per_request is None or rival.currency != arm.cost.currency))
    if not is_tuned(arm.name) or unpriced:
        return "–"
    return "never" if arm.cost.break_even_requests is None else f"{arm.cost.break_even_requests:,}"


def p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"

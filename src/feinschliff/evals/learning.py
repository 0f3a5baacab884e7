"""Would more data help? A learning curve on nested parts of the training data, read no further than its intervals reach."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from feinschliff.core.report import Comparison, CurvePoint, LearningCurve
from feinschliff.core.study import Goal
from feinschliff.evals.compare import WHOLE, Outcome, Scored, compare_arms, find, metrics
from feinschliff.evals.stats import ALPHA

Reading = Literal["rising", "flat", "falling", "open"]
Grades = Mapping[str, Sequence[Outcome]]  # grader → outcomes, aligned with the held-out examples


@dataclass(frozen=True, slots=True)
class Size:
    """What one part of the training data gave: the grades of each training on it, in the order of the seeds."""

    share: float
    n_examples: int
    runs: Sequence[Grades]
    valid_loss: float | None


def learning_curve(sizes: Sequence[Size], arm: str, goal: Goal, scored: Scored) -> LearningCurve:
    """The curve of at least two ascending sizes, the last of them all data, by the goal's grader on the goal's part.

    `scored` gives the parts and clusters of the held-out examples. Only the last step is tested, and nothing is fitted: a
    curve through three or four points says little of what lies beyond them (Viering & Loog 2023, arXiv 2103.10948).
    """
    grader, part = goal.grader, goal.part or WHOLE
    names = [f"{arm} on {size.share:g} of the data" for size in sizes]
    runs = {name: [{grader: run[grader]} for run in size.runs] for name, size in zip(names, sizes, strict=True)}
    graded = replace(scored, outcomes={n: r[0] for n, r in runs.items()}, repeats={n: r for n, r in runs.items() if len(r) > 1})
    points = tuple(
        CurvePoint(
            share=size.share, n_examples=size.n_examples, metric=metrics(graded, name, part)[grader], valid_loss=size.valid_loss
        )
        for size, name in zip(sizes, names, strict=True)
    )  # fmt: skip
    pair = replace(graded, outcomes={n: graded.outcomes[n] for n in names[-2:]})  # the one test, so nothing is adjusted
    last = find(compare_arms(pair, names[-2]), names[-1], grader, part)
    assert last is not None
    reading = _read(last, goal.margin)
    return LearningCurve(arm=arm, points=points, last_step=last, reading=reading, sentence=_sentence(points, last, reading, goal))


def _read(step: Comparison, margin: float) -> Reading:
    if step.p_value < ALPHA and step.low > 0:
        return "rising"
    if step.p_value < ALPHA and step.high < 0:
        return "falling"
    return "flat" if step.n and step.high <= margin else "open"


def _sentence(points: Sequence[CurvePoint], step: Comparison, reading: Reading, goal: Goal) -> str:
    before, after = points[-2:]
    place = f" on part `{goal.part}`" if goal.part else ""
    runs = f"{step.n_runs} seeds" if step.n_runs > 1 else "one seed, whose luck the interval leaves out"
    measured = (
        f"from {before.n_examples:,} to {after.n_examples:,} examples, {goal.grader}{place} changed by {step.difference * 100:+.1f} points "
        f"(95 % interval {step.low * 100:+.1f} to {step.high * 100:+.1f}; {step.n} questions, {runs})"
    )
    match reading:
        case "rising":
            return f"The score still rose at the last step: {measured}. How far it would go on rising with more data is not measured."
        case "falling":
            return f"The score fell at the last step: {measured}. Nothing here says that more data of this kind would help."
        case "flat":
            return f"No gain above {goal.margin * 100:g} points at the last step: {measured}. Nothing here says that more of the same kind would."
        case "open":
            return (
                f"Not decided whether more data would help: {measured}; a gain is neither shown nor ruled out, "
                f"and these questions show differences from {step.smallest_detectable * 100:.1f} points."
            )

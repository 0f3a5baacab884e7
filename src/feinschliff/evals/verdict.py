"""Fine-tune, improve the prompt, get more data, or stop: a pure function of what was measured."""
from feinschliff.core.report import Comparison, Decision, Verdict
from feinschliff.core.study import ingredients
from feinschliff.evals.facts import (
    ENGINEERED,
    SMALL_TRAINING_SET,
    Facts,
    describe,
    difference_text,
    goal_text,
    metric_text,
)
from feinschliff.evals.record import decision_record

__all__ = ["Facts", "decide"]


def decide(facts: Facts) -> Verdict:
    """The decision with its reasons and the decision record; every line carries the numbers that it rests on."""
    tuned = chosen_tuned(facts)
    decision, headline, reasons = _judge(facts, tuned)
    return Verdict(
        decision=decision, headline=headline, reasons=(*reasons, *_caveats(facts, tuned)), record=decision_record(facts, tuned)
    )


def chosen_tuned(facts: Facts) -> str | None:
    """The tuned arm to judge: the best that passes every condition, else the best."""
    return next((a for a in facts.tuned if _passes(facts, a)), next(iter(facts.tuned), None))


def _passes(facts: Facts, arm: str) -> bool:
    return facts.reaches(arm) and facts.better(arm) and not facts.regressions(arm)


def _judge(facts: Facts, tuned: str | None) -> tuple[Decision, str, tuple[str, ...]]:
    untuned = facts.best_untuned
    if untuned is None:
        return "improve_prompt", "No untuned arm was measured: there is nothing to compare with.", (
            "Run at least `base` and one of prompt, few_shot, retrieval, so that a gain can be told from the base's own.",
        )
    standing = f"Best untuned arm: {describe(facts, untuned)}; goal: {goal_text(facts)}."
    if not facts.engineered and not facts.reaches(untuned):
        return "improve_prompt", "Prompt, few-shot and retrieval have not been tried: do that before fine-tuning.", (
            standing,
            "Only the bare base model stands for the untuned side; an engineered prompt is cheaper than a tuned model.",
        )
    if tuned is None:
        return _without_tuned(facts, untuned, standing)
    return _with_tuned(facts, untuned, tuned, standing)


def _without_tuned(facts: Facts, untuned: str, standing: str) -> tuple[Decision, str, tuple[str, ...]]:
    unmeasured = "No tuned arm was run, so nothing is said about what tuning would give."
    if facts.reaches(untuned):
        if set(ingredients(untuned)).isdisjoint(ENGINEERED):
            return "stop", f"`{untuned}` already reaches the goal: no need to fine-tune.", (standing, unmeasured)
        return "improve_prompt", f"`{untuned}` reaches the goal without tuning: use and keep improving it.", (standing, unmeasured)
    untried = [i for i in ENGINEERED if i not in facts.engineered]
    if untried:
        headline = f"No untuned arm reaches the goal yet, and {' and '.join(untried)} has not been tried."
        return "improve_prompt", headline, (standing, unmeasured)
    return "more_data", "No untuned arm reaches the goal: label training data and measure a tuned arm next.", (standing, unmeasured)


def _with_tuned(facts: Facts, untuned: str, tuned: str, standing: str) -> tuple[Decision, str, tuple[str, ...]]:
    comparison = facts.comparison(tuned)
    lines = (standing, f"Best tuned arm: {describe(facts, tuned)}.")
    if comparison is not None:
        lines = (*lines, f"{difference_text(comparison)}.")
    regressions = facts.regressions(tuned)
    lines = (*lines, *(f"Regression: {difference_text(r)}; margin {facts.study.goal.margin:g}." for r in regressions))
    if _passes(facts, tuned):
        if facts.reaches(untuned):
            lines = (*lines, "The best untuned arm reaches the goal as well: the gain, not the goal, is the reason to tune.")
        return "fine_tune", f"Fine-tune: `{tuned}` reaches the goal and beats the best untuned arm, `{untuned}`.", lines
    if facts.reaches(untuned) and not facts.better(tuned):
        return "stop", f"`{untuned}` already reaches the goal and tuning is not measurably better: no need to fine-tune.", lines
    if facts.reaches(untuned) and regressions:
        return "improve_prompt", f"`{untuned}` reaches the goal; the tuned arm gains on it but makes something else worse.", lines
    if facts.better(tuned):
        missing = "makes something else worse" if regressions else "misses the goal"
        return "more_data", f"Tuning helps, but `{tuned}` {missing}: more or better data first.", lines
    return _not_better(facts, untuned, comparison, lines)


def _not_better(
    facts: Facts, untuned: str, comparison: Comparison | None, lines: tuple[str, ...]
) -> tuple[Decision, str, tuple[str, ...]]:
    """No significant gain and no arm at the goal: is it the data's size, or does nothing help?"""
    gap = facts.study.goal.at_least - facts.goal_metric(untuned).value
    few = facts.split.n_train_used < SMALL_TRAINING_SET
    if few:
        lines = (*lines, f"Only {facts.split.n_train_used} training examples were used (fewer than {SMALL_TRAINING_SET}).")
    if comparison is not None and comparison.high >= gap:
        lines = (
            *lines,
            f"The interval does not rule out the {gap * 100:.1f} points missing to the goal; this n shows differences from "
            f"{comparison.smallest_detectable * 100:.1f} points.",
        )
        return "more_data", "Not decided: a gain is neither shown nor ruled out. More data is needed.", lines
    if few:
        return "more_data", "Tuning on so few examples shows no gain: more training data first.", lines
    lines = (*lines, f"The interval rules out a gain of the {gap * 100:.1f} points missing to the goal.")
    return "stop", "Nothing measured here helps: neither prompting nor tuning comes near the goal.", lines


def _caveats(facts: Facts, tuned: str | None) -> tuple[str, ...]:
    """What a sceptic would ask next: is the low end at the goal, and how are the parts that the goal leaves out?"""
    if tuned is None:
        return ()
    goal, metric = facts.study.goal, facts.goal_metric(tuned)
    lines: list[str] = []
    if facts.curve is not None:
        lines.append(facts.curve.sentence)
    if facts.seeds is not None and (spread := facts.spread(tuned)) is not None:
        chosen = next(v for v, run in zip(spread.values, facts.seeds.runs, strict=True) if run.seed == facts.seeds.chosen)
        if facts.reaches(tuned) and chosen < goal.at_least:
            lines.append(
                f"The mean over the seeds reaches the goal; the model to be used, of seed {facts.seeds.chosen}, has {chosen:.3f} here."
            )
    if facts.reaches(tuned) and metric.low < goal.at_least:
        lines.append(
            f"The goal is reached by the point estimate; the interval's low end, {metric.low:.3f}, lies below {goal.at_least:g}."
        )
    for part, graders in facts.arm(tuned).parts.items():
        m = graders[goal.grader]
        if part != facts.goal_part and m.n and m.value < goal.at_least:
            lines.append(f"On part `{part}`, `{tuned}` stays below the goal: {metric_text(m)}.")
    return tuple(lines)

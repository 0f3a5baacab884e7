"""The decision record: the checklist that comes before a fine-tune, each line answered from what was measured."""
import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal

from feinschliff.core.report import Evidence
from feinschliff.core.study import ingredients
from feinschliff.evals.compare import is_tuned
from feinschliff.evals.facts import (
    SMALL_TRAINING_SET,
    Facts,
    describe,
    difference_text,
    goal_text,
    metric_text,
    spread_text,
)

_COST = re.compile(r"\b(costs?|costly|cheap\w*|pric\w+|money|expens\w+|budget|bill\w*|tokens?|sav\w+|spend\w*)\b", re.IGNORECASE)
_OTHER = re.compile(
    r"\b(accura\w+|quality|wrong\w*|error\w*|fail\w*|incorrect\w*|correct\w*|syntax|format\w*|consisten\w+|style|tone|latency|"
    r"slow\w*|fast\w*|speed|priva\w+|on.?premis\w+|local\w*|domain|languages?|dialects?|edge cases?|reliab\w+|hallucinat\w+|"
    r"instructions?|unknown|invalid|cannot|can't|never|compliance)\b",
    re.IGNORECASE,
)


def decision_record(facts: Facts, tuned: str | None) -> tuple[Evidence, ...]:
    """Every question of the checklist, in the order in which they are asked."""
    return (
        _why(facts),
        _baseline(facts),
        *(_tried(facts, kind, question) for kind, question in (
            ("prompt", "Was prompt engineering tried?"),
            ("few_shot", "Were few-shot examples tried?"),
            ("retrieval", "Was retrieval tried?"),
        )),
        _what_fails(facts),
        _labelled(facts),
        _format(facts),
        _curated(facts),
        _no_leakage(facts),
        _enough(facts),
        _success_defined(facts),
        _goal_reached(facts, tuned),
        _seeds(facts, tuned),
        _no_regression(facts, tuned),
        _power(facts, tuned),
        _cost(facts, tuned),
    )  # fmt: skip


def _line(question: str, answer: Literal["yes", "no", "unknown"], evidence: str) -> Evidence:
    return Evidence(question=question, answer=answer, evidence=evidence)


def _yes_if(condition: bool) -> Literal["yes", "no"]:
    return "yes" if condition else "no"


def _why(facts: Facts) -> Evidence:
    """Cost alone is the reason that most often disappoints; a reader of `why` by word lists can only flag it."""
    why, question = facts.study.why.strip(), "Is there a reason to fine-tune other than cost alone?"
    if not why:
        return _line(question, "no", "The study states no reason (`why` is empty).")
    if _COST.search(why) and not _OTHER.search(why):
        return _line(question, "no", f"The stated reason speaks of cost only: “{why}”")
    return _line(question, "yes" if _OTHER.search(why) else "unknown", f"Stated: “{why}”")


def _baseline(facts: Facts) -> Evidence:
    question = "Was the untuned baseline measured?"
    names = [a.name for a in facts.arms if not is_tuned(a.name)]
    if not names:
        return _line(question, "no", "No untuned arm was run.")
    return _line(question, _yes_if("base" in names), "; ".join(describe(facts, n) for n in names) + ".")


def _tried(facts: Facts, kind: str, question: str) -> Evidence:
    names = [a.name for a in facts.arms if not is_tuned(a.name) and kind in ingredients(a.name)]
    said = f" The study notes: {'; '.join(facts.study.tried)}." if facts.study.tried and kind == "prompt" else ""
    if not names:
        return _line(question, "no", f"No untuned arm uses {kind}.{said}")
    best = max(names, key=lambda n: facts.goal_metric(n).value)
    return _line(question, "yes", f"{describe(facts, best)}.{said}")


def _what_fails(facts: Facts) -> Evidence:
    question = "Is it known what fails without fine-tuning?"
    name = facts.best_untuned
    if name is None:
        return _line(question, "unknown", "No untuned arm was run.")
    arm, goal = facts.arm(name), facts.study.goal
    texts = [f"`{name}` by {goal.grader}: {metric_text(arm.metrics[goal.grader])}"]
    texts += [f"on `{part}` {metric_text(m[goal.grader])}" for part, m in sorted(arm.parts.items())]
    answers = facts.answers.get(name, arm.worst)
    kinds = _error_kinds(a.why for a in answers if a.score is not None and a.score < 1)
    if kinds:
        texts.append("most frequent: " + ", ".join(f"{kind} ({n}×)" for kind, n in kinds))
    return _line(question, "yes", "; ".join(texts) + ".")


def _error_kinds(whys: Iterable[str]) -> list[tuple[str, int]]:
    """The three most frequent explanations, told apart by what stands before the first colon, line or digit."""
    heads = (re.split(r"[:\n\d]", why.strip(), maxsplit=1)[0].strip()[:80] for why in whys)
    return Counter(h for h in heads if h).most_common(3)


def _labelled(facts: Facts) -> Evidence:
    by = facts.study.data.labelled_by.strip()
    if not by:
        return _line("Is the data labelled, and by whom?", "unknown", "`data.labelled_by` is empty; every example has an answer.")
    return _line("Is the data labelled, and by whom?", "yes", by)


def _format(facts: Facts) -> Evidence:
    question = "Is the data in the right format?"
    if facts.check is None:
        return _line(question, "unknown", "The data check was not handed to this record.")
    c = facts.check
    codes = Counter(f.code for f in c.findings if f.level == "error").most_common(3)
    listed = f" ({', '.join(f'{code} {n}×' for code, n in codes)})" if codes else ""
    return _line(
        question, _yes_if(c.n_errors == 0), f"{c.n_examples} examples read, {c.n_errors} errors{listed}, {c.n_warnings} warnings."
    )


def _curated(facts: Facts) -> Evidence:
    s, said = facts.split, facts.study.data.curated.strip()
    text = f"{s.n_duplicates_removed} duplicates, {s.n_leaks_removed} leaking and {s.n_too_long} over-long examples left out."
    return _line("Is the data curated?", "yes" if said else "unknown", f"{said.rstrip('.')}. {text}" if said else text)


def _no_leakage(facts: Facts) -> Evidence:
    s = facts.split
    # Sharing an answer is normal for labels and short queries; only the questions make a row a leak.
    rows = sum(n for kind, n in s.leaks.items() if kind != "shared_answer")
    found = ", ".join(f"{kind} {n}" for kind, n in s.leaks.items()) or "none"
    return _line(
        "Are the held-out questions unseen in training?", _yes_if(rows <= s.n_leaks_removed),
        f"Training rows that resemble a held-out one: {found}; {s.n_leaks_removed} removed from training.",
    )  # fmt: skip


def _enough(facts: Facts) -> Evidence:
    n = facts.split.n_train_used
    # The number alone can only say no; whether it is enough, the goal's line says.
    return _line(
        "Is there enough training data?", "no" if n < SMALL_TRAINING_SET else "yes",
        f"{n} training examples used of {facts.split.n_read} read (at least {SMALL_TRAINING_SET} are asked for here; "
        f"whether that suffices shows in the goal's line).{f' {facts.curve.sentence}' if facts.curve else ''}",
    )  # fmt: skip


def _success_defined(facts: Facts) -> Evidence:
    h = facts.held_out
    parts = f" ({', '.join(f'{p}: {n}' for p, n in h.parts.items())})" if h.parts else ""
    return _line(
        "Was success defined beforehand and measured on held-out data?", _yes_if(h.n > 0),
        f"Goal in the study file: {goal_text(facts)}. Held out: {h.n} examples{parts}, sha256 {h.sha256[:16]}….",
    )  # fmt: skip


def _goal_reached(facts: Facts, tuned: str | None) -> Evidence:
    question = "Does a tuned arm reach the goal and beat the best untuned arm?"
    if tuned is None:
        return _line(question, "unknown", "No tuned arm was run.")
    c = facts.comparison(tuned)
    text = f"{describe(facts, tuned)}" + (f"; {difference_text(c)}" if c else "; no untuned arm to compare with")
    return _line(question, _yes_if(facts.reaches(tuned) and facts.better(tuned)), text + ".")


def _seeds(facts: Facts, tuned: str | None) -> Evidence:
    """Training has luck of its own (Dodge et al. 2020, arXiv 2002.06305); one run cannot tell it from the recipe's merit."""
    question = "Does the result hold for other training seeds?"
    spread = facts.spread(tuned) if tuned is not None else None
    if facts.seeds is None or tuned is None or spread is None:
        return _line(question, "unknown", "One seed or none was trained (`training.seeds`).")
    untuned = facts.goal_metric(facts.best_untuned).value if facts.best_untuned else None
    beaten = untuned is None or min(spread.values) > untuned or max(spread.values) <= untuned
    at_goal = len({value >= facts.study.goal.at_least for value in spread.values}) == 1
    rival = "" if untuned is None else f" Best untuned arm: {untuned:.3f}."
    return _line(
        question, _yes_if(beaten and at_goal),
        f"`{tuned}` by {facts.study.goal.grader}: {spread_text(spread, facts.seeds)}.{rival} "
        f"Chosen by {'the validation loss' if facts.seeds.chosen_by == 'validation_loss' else 'being the first'}.",
    )  # fmt: skip


def _no_regression(facts: Facts, tuned: str | None) -> Evidence:
    question, goal = "Is nothing else worse than before?", facts.study.goal
    if not goal.not_worse:
        return _line(question, "unknown", "The goal names no grader that must not get worse (`goal.not_worse`).")
    if tuned is None or facts.best_untuned is None:
        return _line(question, "unknown", "There is no pair of a tuned and an untuned arm.")
    seen = [c for c in facts.comparisons if c.arm == tuned and c.grader in goal.not_worse and c.part in ("", facts.goal_part)]
    texts = [
        f"{difference_text(c)}, a loss beyond the margin {goal.margin:g} is {'' if c.low >= -goal.margin else 'not '}ruled out"
        for c in seen
    ]
    return _line(question, _yes_if(not facts.regressions(tuned)), "; ".join(texts) + ".")


def _power(facts: Facts, tuned: str | None) -> Evidence:
    question = "Is the held-out set large enough to show the difference?"
    c = facts.comparison(tuned) if tuned else next((x for x in facts.comparisons if x.grader == facts.study.goal.grader), None)
    if c is None:
        return _line(question, "unknown", f"No pair of arms was compared on the {facts.held_out.n} held-out examples.")
    return _line(
        question, _yes_if(abs(c.difference) >= c.smallest_detectable),
        f"{c.n} pairs show differences from {c.smallest_detectable * 100:.1f} points (80 % power, alpha 0.05, one comparison); "
        f"measured {c.difference * 100:+.1f}.",
    )  # fmt: skip


def _cost(facts: Facts, tuned: str | None) -> Evidence:
    question = "Does it pay off at the stated traffic?"
    if tuned is None:
        return _line(question, "unknown", "No tuned arm was run.")
    c, traffic, prices = facts.arm(tuned).cost, facts.study.traffic.requests_per_month, facts.study.prices
    hosted = facts.study.host_of(tuned) is not None
    if not hosted and not any((prices.machine_hour, prices.hosting_hour, prices.input_million_tokens, prices.output_million_tokens)):
        return _line(question, "unknown", f"No prices are set. {_tokens(facts, tuned)}")
    if c.training is None or c.hosting_month is None or c.per_request is None:
        return _line(question, "unknown", f"The provider's price is not known (prices.toml). {_tokens(facts, tuned)}")
    rival = facts.arm(facts.best_untuned).cost if facts.best_untuned else None
    if rival is not None and (rival.per_request is None or rival.currency != c.currency):
        return _line(question, "unknown", f"`{facts.best_untuned}` has no price in {c.currency} to compare with. {_tokens(facts, tuned)}")
    even = "never breaks even" if c.break_even_requests is None else f"breaks even after {c.break_even_requests:,} requests"
    return _line(
        question, _yes_if(c.break_even_requests is not None),
        f"`{tuned}`: training {c.training:.2f} {c.currency}, hosting {c.hosting_month:.2f} a month, {c.per_request * 1000:.4f} per "
        f"1,000 requests; {even} at {traffic:,} requests a month. {_tokens(facts, tuned)}",
    )  # fmt: skip


def _tokens(facts: Facts, tuned: str) -> str:
    arms = [facts.arm(n) for n in (tuned, facts.best_untuned) if n]
    return "Tokens per request: " + ", ".join(f"`{a.name}` {a.input_tokens:.0f} in, {a.output_tokens:.0f} out" for a in arms) + "."

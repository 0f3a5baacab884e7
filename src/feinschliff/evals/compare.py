"""From the scores of every arm to metrics and paired comparisons: which arm is better, by how much, and is it luck?"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from feinschliff.core.ports import Estimate, GraderFailure, Score
from feinschliff.core.report import Comparison, MetricValue
from feinschliff.core.study import ingredients
from feinschliff.evals import stats

Outcome = Score | GraderFailure
WHOLE = ""  # the part name that means the whole held-out set


@dataclass(frozen=True, slots=True)
class Scored:
    """Everything graded in a study. `outcomes[arm][grader]` is aligned with the held-out examples, as are `parts` and `clusters`.

    `parts` names each example's part ("" = none). `clusters` groups examples that stand or fall together (questions about
    one document): intervals then resample whole clusters, and McNemar's test, which needs independent examples, gives way
    to the clustered bootstrap. Raises ValueError where lengths differ.
    """

    outcomes: Mapping[str, Mapping[str, Sequence[Outcome]]]
    parts: Sequence[str]
    clusters: Sequence[str] | None = None
    draws: int = stats.DRAWS
    seed: int = 0

    def __post_init__(self) -> None:
        n = len(self.parts)
        if self.clusters is not None and len(self.clusters) != n:
            raise ValueError(f"{n} examples but {len(self.clusters)} cluster ids")
        for arm, graders in self.outcomes.items():
            for grader, outcomes in graders.items():
                if len(outcomes) != n:
                    raise ValueError(f"arm {arm!r}, grader {grader!r}: {len(outcomes)} outcomes for {n} examples")

    @property
    def part_names(self) -> tuple[str, ...]:
        """The named parts, sorted; not the whole."""
        return tuple(sorted({p for p in self.parts if p != WHOLE}))

    def rows(self, part: str) -> tuple[int, ...]:
        """Indices of the examples of a part."""
        return tuple(i for i, p in enumerate(self.parts) if part in (WHOLE, p))

    def binary(self, grader: str) -> bool:
        """Whether a grader said only 0 or 1 of all arms, so that all of them are tested alike."""
        return stats.is_binary([o.value for g in self.outcomes.values() for o in g.get(grader, ()) if isinstance(o, Score)])


def is_tuned(arm: str) -> bool:
    return "tuned" in ingredients(arm)


def metrics(scored: Scored, arm: str, part: str = WHOLE) -> dict[str, MetricValue]:
    """Grader → mean with its interval for one arm: Wilson for binary scores, bootstrap else. Failures are counted, not scored.

    `n` = 0 says that every answer met a grader failure; the value is then 0 in (0, 1) and means nothing.
    """
    return {grader: _metric(scored, arm, grader, part) for grader in scored.outcomes[arm]}


def metrics_by_part(scored: Scored, arm: str) -> dict[str, dict[str, MetricValue]]:
    """Part → grader → metric, for every named part."""
    return {part: metrics(scored, arm, part) for part in scored.part_names}


def best_arm(
    scored: Scored, *, grader: str, part: str | None, input_tokens: Mapping[str, float], tuned: bool
) -> str | None:
    """The best tuned or untuned arm by the goal's grader on the goal's part; None where there is no such arm.

    Ties go to the arm with fewer input tokens per request, then to the one named first.
    """
    arms = [a for a in scored.outcomes if is_tuned(a) == tuned]
    return min(
        arms,
        key=lambda a: (-_metric(scored, a, grader, part or WHOLE).value, input_tokens.get(a, 0.0), arms.index(a)),
        default=None,
    )


def compare_arms(scored: Scored, baseline: str | None) -> tuple[Comparison, ...]:
    """Every other arm against `baseline`, for each grader on the whole set and on each part, Holm-adjusted across the arms.

    Examples where the grader failed on either side are left out of that pair. No baseline, no comparisons.
    """
    if baseline is None:
        return ()
    rivals = [a for a in scored.outcomes if a != baseline]
    found: list[Comparison] = []
    for grader in scored.outcomes[baseline]:
        for part in (WHOLE, *scored.part_names):
            raw = [_compare(scored, arm, baseline, grader, part) for arm in rivals]
            adjusted = stats.holm([c.p_value for c in raw])
            found += [c.model_copy(update={"p_adjusted": p}) for c, p in zip(raw, adjusted, strict=True)]
    return tuple(found)


def find(comparisons: Sequence[Comparison], arm: str, grader: str, part: str = WHOLE) -> Comparison | None:
    """The comparison of this arm by this grader on this part."""
    return next((c for c in comparisons if (c.arm, c.grader, c.part) == (arm, grader, part)), None)


def _metric(scored: Scored, arm: str, grader: str, part: str) -> MetricValue:
    outcomes = scored.outcomes[arm][grader]
    rows = scored.rows(part)
    kept = [(i, o.value) for i in rows if isinstance(o := outcomes[i], Score)]
    values = [value for _, value in kept]
    estimate: Estimate
    if scored.clusters is None and scored.binary(grader):
        estimate = stats.binary_mean(values)
    else:
        clusters = None if scored.clusters is None else [scored.clusters[i] for i, _ in kept]
        estimate = stats.bootstrap_mean(values, clusters=clusters, draws=scored.draws, seed=scored.seed)
    return MetricValue(
        value=estimate.value, low=estimate.low, high=estimate.high, n=estimate.n, n_failed=len(rows) - len(kept)
    )


def _compare(scored: Scored, arm: str, baseline: str, grader: str, part: str) -> Comparison:
    ours, theirs = scored.outcomes[arm][grader], scored.outcomes[baseline][grader]
    pairs = [
        (i, a.value, b.value)
        for i in scored.rows(part)
        if isinstance(a := ours[i], Score) and isinstance(b := theirs[i], Score)
    ]
    a = np.array([p[1] for p in pairs], dtype=np.float64)
    b = np.array([p[2] for p in pairs], dtype=np.float64)
    wins, losses, n = int((a > b).sum()), int((a < b).sum()), len(pairs)
    binary = scored.binary(grader)
    exact = binary and scored.clusters is None
    if exact:
        both = int(((a == 1) & (b == 1)).sum())
        p = stats.mcnemar_exact(wins, losses)
        low, high = stats.newcombe_paired(both, wins, losses, n - both - wins - losses)
    else:
        clusters = None if scored.clusters is None else [scored.clusters[i] for i, _, _ in pairs]
        p, low, high = stats.paired_bootstrap(a, b, clusters=clusters, draws=scored.draws, seed=scored.seed)
    if binary:
        smallest = stats.smallest_detectable_binary(n, (wins + losses) / n if n else 0.0)
    else:
        smallest = stats.smallest_detectable_graded(n, float((a - b).std(ddof=1)) if n > 1 else 0.0)
    return Comparison(
        arm=arm, baseline=baseline, grader=grader, part=part, n=n, difference=float((a - b).mean()) if n else 0.0,
        low=low, high=high, p_value=p, p_adjusted=p, test="mcnemar_exact" if exact else "paired_bootstrap",
        wins=wins, losses=losses, smallest_detectable=smallest,
    )  # fmt: skip

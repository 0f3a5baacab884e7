"""From the scores of every arm to metrics and paired comparisons: which arm is better, by how much, and is it luck?"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from feinschliff.core.ports import Estimate, GraderFailure, Score
from feinschliff.core.report import Comparison, MetricValue
from feinschliff.core.study import ingredients
from feinschliff.evals import crossed, stats
from feinschliff.evals.stats import Floats

Outcome = Score | GraderFailure
WHOLE = ""  # the part name that means the whole held-out set


@dataclass(frozen=True, slots=True)
class Scored:
    """Everything graded in a study. `outcomes[arm][grader]` is aligned with the held-out examples, as are `parts` and `clusters`.

    `parts` names each example's part ("" = none). `clusters` groups examples that stand or fall together (questions about
    one document): intervals then resample whole clusters, and McNemar's test, which needs independent examples, gives way
    to the clustered bootstrap. `repeats[arm]` holds the outcomes of every training where an arm was trained several times
    (`outcomes` has those of one of them): its metrics and comparisons are then over all of them (`evals.crossed`).
    Raises ValueError where lengths differ.
    """

    outcomes: Mapping[str, Mapping[str, Sequence[Outcome]]]
    parts: Sequence[str]
    clusters: Sequence[str] | None = None
    draws: int = stats.DRAWS
    seed: int = 0
    repeats: Mapping[str, Sequence[Mapping[str, Sequence[Outcome]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.parts)
        if self.clusters is not None and len(self.clusters) != n:
            raise ValueError(f"{n} examples but {len(self.clusters)} cluster ids")
        for arm, graders in self.outcomes.items():
            for grader in graders:
                for outcomes in self.runs(arm, grader):
                    if len(outcomes) != n:
                        raise ValueError(f"arm {arm!r}, grader {grader!r}: {len(outcomes)} outcomes for {n} examples")

    def runs(self, arm: str, grader: str) -> tuple[Sequence[Outcome], ...]:
        """The arm's outcomes, once for each of its trainings; once for an arm that was not repeated."""
        repeats = self.repeats.get(arm)
        return tuple(run[grader] for run in repeats) if repeats else (self.outcomes[arm][grader],)

    @property
    def part_names(self) -> tuple[str, ...]:
        """The named parts, sorted; not the whole."""
        return tuple(sorted({p for p in self.parts if p != WHOLE}))

    def rows(self, part: str) -> tuple[int, ...]:
        """Indices of the examples of a part."""
        return tuple(i for i, p in enumerate(self.parts) if part in (WHOLE, p))

    def binary(self, grader: str) -> bool:
        """Whether a grader said only 0 or 1 of all arms, so that all of them are tested alike."""
        given = (o for arm, g in self.outcomes.items() if grader in g for run in self.runs(arm, grader) for o in run)
        return stats.is_binary([o.value for o in given if isinstance(o, Score)])


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


def run_means(scored: Scored, arm: str, grader: str, part: str = WHOLE) -> tuple[float, ...]:
    """The arm's mean, training by training, over the examples that all of them have scores for; empty where there are none."""
    runs = scored.runs(arm, grader)
    kept = [values for i in scored.rows(part) if (values := _values(runs, i)) is not None]
    return tuple(sum(column) / len(kept) for column in zip(*kept, strict=True))


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
    runs = scored.runs(arm, grader)
    rows = scored.rows(part)
    kept = [(i, values) for i in rows if (values := _values(runs, i)) is not None]
    scores_NR = np.array([values for _, values in kept], dtype=np.float64).reshape(len(kept), len(runs))
    clusters = None if scored.clusters is None else [scored.clusters[i] for i, _ in kept]
    estimate: Estimate
    if len(runs) > 1:
        estimate = crossed.mean_estimate(scores_NR, clusters)
    elif clusters is None and scored.binary(grader):
        estimate = stats.binary_mean(scores_NR[:, 0])
    else:
        estimate = stats.bootstrap_mean(scores_NR[:, 0], clusters=clusters, draws=scored.draws, seed=scored.seed)
    return MetricValue(
        value=estimate.value, low=estimate.low, high=estimate.high, n=estimate.n, n_failed=len(rows) - len(kept), n_runs=len(runs)
    )


def _values(runs: Sequence[Sequence[Outcome]], i: int) -> tuple[float, ...] | None:
    """Example i's scores by run; None where the grader failed on any of them."""
    values = tuple(o.value for run in runs if isinstance(o := run[i], Score))
    return values if len(values) == len(runs) else None


def _compare(scored: Scored, arm: str, baseline: str, grader: str, part: str) -> Comparison:
    ours, theirs = scored.runs(arm, grader), scored.runs(baseline, grader)
    pairs = [
        (i, a, b) for i in scored.rows(part) if (a := _values(ours, i)) is not None and (b := _values(theirs, i)) is not None
    ]
    n = len(pairs)
    a_NR = np.array([p[1] for p in pairs], dtype=np.float64).reshape(n, len(ours))
    b_NR = np.array([p[2] for p in pairs], dtype=np.float64).reshape(n, len(theirs))
    clusters = None if scored.clusters is None else [scored.clusters[i] for i, _, _ in pairs]
    a, b = a_NR.mean(axis=1), b_NR.mean(axis=1)
    wins, losses = int((a > b).sum()), int((a < b).sum())
    test = _test(scored, grader, a_NR, b_NR, clusters)
    return Comparison(
        arm=arm, baseline=baseline, grader=grader, part=part, n=n, difference=float((a - b).mean()) if n else 0.0,
        low=test.low, high=test.high, p_value=test.p, p_adjusted=test.p, test=test.name, wins=wins, losses=losses,
        smallest_detectable=test.smallest, n_runs=max(len(ours), len(theirs)),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Tested:
    name: Literal["mcnemar_exact", "paired_bootstrap", "crossed_t"]
    p: float
    low: float
    high: float
    smallest: float


def _test(scored: Scored, grader: str, a_NR: Floats, b_NR: Floats, clusters: Sequence[str] | None) -> _Tested:
    """The test that the scores call for; several runs against one are paired with it, several against several by their order."""
    difference_NR = a_NR - b_NR
    if difference_NR.shape[1] > 1:
        p, low, high = crossed.paired_t(difference_NR, clusters)
        return _Tested("crossed_t", p, low, high, crossed.smallest_detectable(difference_NR, clusters))
    n, (a, b) = difference_NR.shape[0], (a_NR[:, 0], b_NR[:, 0])
    wins, losses = int((a > b).sum()), int((a < b).sum())
    binary = scored.binary(grader)
    if binary:
        smallest = stats.smallest_detectable_binary(n, (wins + losses) / n if n else 0.0)
    else:
        smallest = stats.smallest_detectable_graded(n, float((a - b).std(ddof=1)) if n > 1 else 0.0)
    if binary and clusters is None:
        both = int(((a == 1) & (b == 1)).sum())
        low, high = stats.newcombe_paired(both, wins, losses, n - both - wins - losses)
        return _Tested("mcnemar_exact", stats.mcnemar_exact(wins, losses), low, high, smallest)
    p, low, high = stats.paired_bootstrap(a, b, clusters=clusters, draws=scored.draws, seed=scored.seed)
    return _Tested("paired_bootstrap", p, low, high, smallest)

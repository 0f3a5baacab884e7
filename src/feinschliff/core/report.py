"""`report.json`: what a study measured and what it decides. A stable schema; `schema_version` changes when it does.

The schema is documented in docs/report.md (generated from here) and tested.
"""
from typing import Literal

from pydantic import Field

from feinschliff.core.chat import Wire

SCHEMA_VERSION = 1
Decision = Literal["fine_tune", "improve_prompt", "more_data", "stop"]


class MetricValue(Wire):
    """A metric with its 95 % interval over `n` scored answers; `n_failed` answers had a grader failure and are not in it."""

    value: float
    low: float
    high: float
    n: int
    n_failed: int = 0
    n_runs: int = 1  # trainings that the mean is taken over, each having answered all n


class Latency(Wire):
    """Milliseconds of requests answered one at a time; None where none was timed."""

    p50: float | None
    p95: float | None
    n: int


class Cost(Wire):
    """In the study's currency; a hosted arm's in its provider's. `per_request` from token prices; `training` and `hosting_month` are 0 for
    untuned arms. What a provider's price is not known for is None.
    """

    currency: str
    training: float | None
    hosting_month: float | None
    per_request: float | None
    # Against the best untuned arm; None where it never breaks even, and where that cannot be said for want of a price or of one currency.
    break_even_requests: int | None


class Answer(Wire):
    """One held-out question and what came back, for the side-by-side pages and `failures.jsonl`."""

    example_id: str
    question: str
    gold: str
    reply: str
    score: float | None  # by the goal's grader; None: the grader failed
    why: str = ""
    part: str = ""


class ArmReport(Wire):
    name: str
    metrics: dict[str, MetricValue]  # grader → metric on the whole held-out set
    extra: dict[str, float] = Field(default_factory=dict)  # e.g. "intent/macro_f1"
    parts: dict[str, dict[str, MetricValue]]  # part → grader → metric
    input_tokens: float  # mean per request
    output_tokens: float
    latency_ms: Latency
    answering_seconds: float  # the whole held-out set, batched
    cost: Cost
    wins: int  # against the best untuned arm, by the goal's grader on the goal's part
    losses: int
    worst: tuple[Answer, ...]


class Comparison(Wire):
    """`arm` minus `baseline` on the same examples, by one grader. `p_adjusted` is Holm's over all comparisons of that grader and part."""

    arm: str
    baseline: str
    grader: str
    part: str  # "" = the whole held-out set
    n: int
    difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    test: Literal["mcnemar_exact", "paired_bootstrap", "crossed_t"]
    wins: int  # questions; with several trainings, by the mean over them
    losses: int
    smallest_detectable: float  # difference that this n shows with 80 % power at alpha 0.05
    n_runs: int = 1  # trainings on either side, paired by seed where both sides have several


class Evidence(Wire):
    """One line of the decision record: a question, whether it is satisfied, and what shows it."""

    question: str
    answer: Literal["yes", "no", "unknown"]
    evidence: str


class Verdict(Wire):
    decision: Decision
    headline: str
    reasons: tuple[str, ...]
    record: tuple[Evidence, ...]


class HeldOut(Wire):
    n: int
    sha256: str  # of the frozen test file
    parts: dict[str, int]


class SplitReport(Wire):
    """Sizes after the split and what the leakage check found between the held-out set and the training data."""

    n_read: int
    n_train: int
    n_validation: int
    n_test: int
    n_duplicates_removed: int  # the same example twice in the data
    leaks: dict[str, int]  # "exact" | "normalised" | "near_duplicate" | "shared_answer" → number of training rows
    n_leaks_removed: int
    n_train_used: int
    n_too_long: int


class TrainingReport(Wire):
    method: str
    precision: str
    steps: int
    epochs: int
    seconds: float
    trained_tokens: int
    peak_memory_bytes: int
    first_train_loss: float
    last_train_loss: float
    valid_loss: float | None
    losses: tuple[tuple[int, float], ...]  # (step, train loss), thinned to at most 400 points
    valid_losses: tuple[tuple[int, float], ...]
    model: str = ""  # folder of the tuned model or adapter, relative to the study's


class SeedRun(Wire):
    """One of several trainings that differ in nothing but the seed."""

    seed: int
    model: str  # its folder, relative to the study's
    valid_loss: float | None  # of the model that the run left
    seconds: float  # its own, without the others' turns


class Spread(Wire):
    """One tuned arm by one grader, seed by seed."""

    arm: str
    grader: str
    part: str  # "" = the whole held-out set
    values: tuple[float, ...]  # in the order of `SeedReport.runs`
    deviation: float  # standard deviation between the seeds


class SeedReport(Wire):
    """Several trainings: tuned arms' metrics and comparisons are over all of them; answers, tokens, latency and cost are the chosen one's."""

    runs: tuple[SeedRun, ...]
    chosen: int  # the seed whose model is proposed for use
    chosen_by: Literal["validation_loss", "first"]  # never a held-out score; "first" where there is no validation part
    spreads: tuple[Spread, ...]


class CurvePoint(Wire):
    share: float  # of the training part
    n_examples: int  # mean over the seeds, which draw their own
    metric: MetricValue  # by the goal's grader on the goal's part
    valid_loss: float | None  # mean over the seeds


class LearningCurve(Wire):
    """The same recipe on nested parts of the training data: would more data help?"""

    arm: str  # the first tuned arm
    points: tuple[CurvePoint, ...]  # ascending; the last is all of the training part
    last_step: Comparison  # all of it against the next smaller part, on the same questions
    reading: Literal["rising", "flat", "falling", "open"]
    sentence: str


class HostedReport(Wire):
    """A model of `[hosted.NAME]`. Requests and money are all that was asked for the study, and asked again after a kill; money is None where
    a price is not known.
    """

    name: str
    region: str
    model: str
    tuned_model: str = ""  # its provider's name for what was tuned; empty where nothing was
    run: str = ""  # the training's folder, relative to the study's
    steps: int
    trained_tokens: int
    currency: str
    requests: int
    input_tokens: int
    output_tokens: int
    answers_money: float | None
    training_money: float | None


class Report(Wire):
    schema_version: int = SCHEMA_VERSION
    study: str
    task: str
    why: str
    tried: tuple[str, ...]
    created_at: str  # ISO 8601, UTC
    base_model: str
    base_model_sha256: str
    goal: str  # in words
    goal_grader: str
    goal_part: str
    goal_at_least: float | None = None  # the threshold, in the units of the goal's grader
    held_out: HeldOut
    split: SplitReport
    arms: tuple[ArmReport, ...]
    best_untuned: str
    best_tuned: str | None
    comparisons: tuple[Comparison, ...]
    training: TrainingReport | None
    seed_runs: SeedReport | None = None  # where the study trains with several seeds
    hosted: tuple[HostedReport, ...] = ()  # where arms are answered elsewhere
    learning_curve: LearningCurve | None = None  # where the study asks for one
    verdict: Verdict
    versions: dict[str, str]  # package → version
    seeds: dict[str, int]
    device: str
    timings_s: dict[str, float]

"""What a study's tuned model costs, at whose prices, and from when it pays off: the sheet, and the one of a finished study."""
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from feinschliff.app.study_folder import Layout
from feinschliff.catalog.fit import Fit
from feinschliff.catalog.prices import Price, Prices
from feinschliff.core.chat import Wire
from feinschliff.core.jobs import TRAIN_EVENT, Step
from feinschliff.core.report import Report
from feinschliff.core.study import Prices as StudyPrices
from feinschliff.core.study import Study
from feinschliff.evals.compare import is_tuned
from feinschliff.evals.cost import HOURS_PER_MONTH, break_even_requests, curve


class ArmCost(Wire):
    name: str
    input_tokens: float  # mean per request
    output_tokens: float
    per_request: float
    month: float  # at the stated traffic, with hosting where it is tuned


class Point(Wire):
    requests: int
    tuned: float
    untuned: float


class CostSheet(Wire):
    """Amounts are in `currency`. `break_even_requests` is None where the tuned arm never pays off."""

    study: str
    basis: Literal["estimate", "measured"]
    model: str
    currency: str
    training_tokens: int  # of all examples, over all epochs
    training_seconds: float | None
    training: float | None  # None: by time, and nobody knows how long it takes
    hosting_month: float
    requests_per_month: int
    arms: tuple[ArmCost, ...]
    tuned: str | None  # the two arms that are compared
    untuned: str | None
    break_even_requests: int | None
    curve: tuple[Point, ...]
    fit: Fit | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rates:
    """One provider's prices as functions. `training(tokens, seconds)` is None where it needs seconds that nobody knows."""

    model: str
    currency: str
    training: Callable[[int, float | None], float | None]
    hosting_hour: float
    request: Callable[[float, float, bool], float]  # input tokens, output tokens, tuned
    here: bool  # on one's own machine: what a study measured of time holds


def own_rates(model: str, of_study: StudyPrices, prices: Prices) -> Rates:
    """On one's own machine: the study's prices, and where it has none for the machine, prices.toml's."""
    hour = of_study.machine_hour or prices.machine_hour
    machine = prices.machine
    currency = machine.currency if machine and hour and not of_study.machine_hour else of_study.currency
    return Rates(
        model=model, currency=currency, hosting_hour=of_study.hosting_hour, here=True,
        training=lambda tokens, seconds: 0.0 if not hour else None if seconds is None else seconds / 3600 * hour,
        request=lambda i, o, tuned: (i * of_study.input_million_tokens + o * of_study.output_million_tokens) / 1e6,
    )  # fmt: skip


def hosted_rates(price: Price) -> Rates:
    """At a provider. Its functions raise NoPrice."""

    def training(tokens: int, seconds: float | None) -> float | None:
        by_time = price.training_million_tokens is None and price.training_hour is not None
        return None if by_time and seconds is None else price.training(tokens=tokens, seconds=seconds or 0.0)

    return Rates(
        model=price.model, currency=price.currency, training=training, hosting_hour=price.hosting_hour, here=False,
        request=lambda i, o, tuned: price.request(i, o, tuned=tuned),
    )  # fmt: skip


def measured(study: Study, report: Report, out: Path, rates: Rates) -> CostSheet:
    """After a study has finished in `out`: its own token counts, and the training of the model that it proposes. Of this machine's arms alone.

    Only time in which that model trained is counted: none of the waiting, and none of what failed.
    """
    arms = {a.name: (a.input_tokens, a.output_tokens) for a in report.arms if study.host_of(a.name) is None}
    tuned, untuned = (best if best in arms else None for best in (report.best_tuned, report.best_untuned))
    seconds = report.training.seconds if report.training and rates.here else None
    notes: list[str] = []
    if not rates.here:
        notes.append(f"Tokens are those of {report.base_model}; {rates.model} counts a few per cent more or less.")
    if report.seed_runs or report.learning_curve:
        notes.append("The training is that of the one model that is proposed for use; the study's other trainings are not in it.")
    if len(arms) < len(report.arms):
        notes.append("Arms that are answered elsewhere are not in it: their costs stand in the report.")
    tokens = training_tokens(report, out)
    return sheet(study, rates, "measured", arms, tokens, seconds, tuned, untuned, None, notes)


def training_tokens(report: Report, out: Path) -> int:
    """Of all examples, over all epochs, in the training of the proposed model; 0 where there is no log."""
    if report.training is None:
        return 0
    run = (out / report.training.model).parent if report.training.model else Layout(out).run
    return logical_tokens(run / "events.jsonl")


def sheet(
    study: Study, rates: Rates, basis: Literal["estimate", "measured"], arms: dict[str, tuple[float, float]], tokens: int,
    seconds: float | None, tuned: str | None, untuned: str | None, fit: Fit | None, notes: list[str],
) -> CostSheet:  # fmt: skip
    """`arms`: name → mean tokens of a request and of its answer."""
    requests = study.traffic.requests_per_month
    hosting = rates.hosting_hour * HOURS_PER_MONTH if tuned else 0.0
    training = rates.training(tokens, seconds) if tuned else 0.0
    each = {a: rates.request(i, o, is_tuned(a)) for a, (i, o) in arms.items()}
    even, points = None, ()
    if tuned and untuned and training is not None:
        saving = each[untuned] - each[tuned]
        even = break_even_requests(training=training, hosting_month=hosting, saving_per_request=saving, requests_per_month=requests)
        points = curve(
            training=training, hosting_month=hosting, tuned_request=each[tuned], untuned_request=each[untuned],
            requests_per_month=requests, break_even=even,
        )  # fmt: skip
    if not requests:
        notes = [*notes, "No traffic is stated ([traffic] requests_per_month), so monthly amounts are those of hosting alone."]
    return CostSheet(
        study=study.name, basis=basis, model=rates.model, currency=rates.currency, training_tokens=tokens, training_seconds=seconds,
        training=training, hosting_month=hosting, requests_per_month=requests,
        arms=tuple(
            ArmCost(name=a, input_tokens=i, output_tokens=o, per_request=each[a], month=each[a] * requests + (hosting if is_tuned(a) else 0.0))
            for a, (i, o) in arms.items()
        ),
        tuned=tuned, untuned=untuned, break_even_requests=even, curve=tuple(Point.model_validate(asdict(p)) for p in points), fit=fit,
        notes=tuple(notes),
    )  # fmt: skip


def logical_tokens(events: Path) -> int:
    """As a log tells; a step that was repeated after a kill counts once."""
    if not events.is_file():
        return 0
    steps = [e for line in events.read_text(encoding="utf-8").splitlines() if isinstance(e := TRAIN_EVENT.validate_json(line), Step)]
    return sum({e.step: e.logical_tokens for e in steps}.values())

"""What a study's tuned models cost, at whose prices, and from when they pay off: the sheet, and the one of a finished study."""
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from feinschliff.app.study_folder import Layout
from feinschliff.app.study_rates import HERE, Place, Rates
from feinschliff.catalog.fit import Fit
from feinschliff.core.chat import Wire
from feinschliff.core.jobs import TRAIN_EVENT, Step
from feinschliff.core.report import Report
from feinschliff.core.study import Study
from feinschliff.evals.compare import is_tuned
from feinschliff.evals.cost import break_even_requests, curve


class ArmCost(Wire):
    """`place` is the name under `[hosted]` of who answers it, empty for this machine. What a price is not known for is None."""

    name: str
    place: str
    currency: str
    input_tokens: float  # mean per request
    output_tokens: float
    per_request: float | None
    month: float | None  # at the stated traffic, with hosting where it is tuned
    break_even_requests: int | None  # of a tuned one, against the untuned one that is compared


class TrainingCost(Wire):
    """Of one place that trains, and a month of keeping up there what it trained."""

    place: str
    model: str
    currency: str
    tokens: int  # of all examples, over all epochs
    seconds: float | None
    training: float | None  # None: by time, and nobody knows how long it takes; or the price is not known
    hosting_month: float | None


class Point(Wire):
    requests: int
    tuned: float
    untuned: float


class CostSheet(Wire):
    """Amounts are in `currency`, which as `model`, training and hosting is that of the tuned arm that is compared; other places stand in
    `trainings`. `break_even_requests` is None where the tuned arm never pays off, or that cannot be said.
    """

    study: str
    basis: Literal["estimate", "measured"]
    model: str
    currency: str
    training_tokens: int  # of all examples, over all epochs
    training_seconds: float | None
    training: float | None  # None: by time, and nobody knows how long it takes; or the price is not known
    hosting_month: float | None
    requests_per_month: int
    arms: tuple[ArmCost, ...]
    trainings: tuple[TrainingCost, ...]
    tuned: str | None  # the two arms that are compared
    untuned: str | None
    break_even_requests: int | None
    curve: tuple[Point, ...]
    fit: Fit | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Arm:
    """One arm at the prices of its place."""

    place: str
    currency: str
    tokens: tuple[float, float]
    training: float | None
    hosting_month: float | None
    request: float | None

    def beside(self, rival: "_Arm", traffic: int) -> tuple[int | None, tuple[Point, ...]]:
        """After how many requests it has paid off, and the way there; nothing where a price is not known, or in another currency."""
        if self.training is None or self.hosting_month is None or self.request is None or rival.request is None or self.currency != rival.currency:
            return None, ()
        even = break_even_requests(
            training=self.training, hosting_month=self.hosting_month, saving_per_request=rival.request - self.request, requests_per_month=traffic
        )
        points = curve(
            training=self.training, hosting_month=self.hosting_month, tuned_request=self.request, untuned_request=rival.request,
            requests_per_month=traffic, break_even=even,
        )  # fmt: skip
        return even, tuple(Point.model_validate(asdict(p)) for p in points)


def measured(study: Study, report: Report, out: Path, rates: Rates, hosts: Mapping[str, Rates]) -> CostSheet:
    """After a study has finished in `out`: its own token counts, the training of the model that it proposes, and what providers charged.

    Only time in which that model trained is counted: none of the waiting, and none of what failed.
    """
    seconds = report.training.seconds if report.training and rates.here else None
    places = {HERE: Place(rates, training_tokens(report, out), seconds)}
    places |= {name: Place(there) for name, there in hosts.items()}
    for told in report.hosted:
        if told.name not in hosts:
            continue  # the study file has changed since
        charged = told.training_money if told.tuned_model and told.currency == hosts[told.name].currency else None
        places[told.name] = Place(hosts[told.name], told.trained_tokens, charged=charged)
    notes: list[str] = []
    if not rates.here:
        notes.append(f"Tokens are those of {report.base_model}; {rates.model} counts a few per cent more or less.")
    if report.seed_runs or report.learning_curve:
        notes.append("The training is that of the one model that is proposed for use; the study's other trainings are not in it.")
    arms = {a.name: (a.input_tokens, a.output_tokens) for a in report.arms}
    return sheet(study, places, "measured", arms, report.best_tuned, report.best_untuned, None, notes)


def training_tokens(report: Report, out: Path) -> int:
    """Of all examples, over all epochs, in the training of the proposed model; 0 where there is no log."""
    if report.training is None:
        return 0
    run = (out / report.training.model).parent if report.training.model else Layout(out).run
    return logical_tokens(run / "events.jsonl")


def sheet(
    study: Study, places: Mapping[str, Place], basis: Literal["estimate", "measured"], arms: Mapping[str, tuple[float, float]],
    tuned: str | None, untuned: str | None, fit: Fit | None, notes: list[str],
) -> CostSheet:  # fmt: skip
    """`places`: HERE and the names under `[hosted]`; `arms`: name → mean tokens of a request and of its answer."""
    traffic = study.traffic.requests_per_month
    priced = {name: _priced(study, name, tokens, places) for name, tokens in arms.items()}
    rival = priced[untuned] if untuned else None
    ways = {a: arm.beside(rival, traffic) for a, arm in priced.items() if rival and is_tuned(a)}
    even, points = ways.get(tuned or "", (None, ()))
    compared = places[priced[tuned].place if tuned else HERE]
    return CostSheet(
        study=study.name, basis=basis, model=compared.rates.model, currency=compared.rates.currency, training_tokens=compared.tokens,
        training_seconds=compared.seconds, training=compared.training if tuned else 0.0,
        hosting_month=compared.rates.hosting_month if tuned else 0.0, requests_per_month=traffic,
        arms=tuple(_shown(a, arm, traffic, ways.get(a, (None, ()))[0]) for a, arm in priced.items()), trainings=_trainings(priced, places), tuned=tuned,
        untuned=untuned, break_even_requests=even, curve=points, fit=fit,
        notes=(*notes, *_notes(priced, tuned, untuned, traffic)),
    )  # fmt: skip


def _priced(study: Study, name: str, tokens: tuple[float, float], places: Mapping[str, Place]) -> _Arm:
    where, tuned = study.host_of(name) or HERE, is_tuned(name)
    place = places[where]
    return _Arm(
        place=where, currency=place.rates.currency, tokens=tokens, training=place.training if tuned else 0.0,
        hosting_month=place.rates.hosting_month if tuned else 0.0, request=place.rates.request(*tokens, tuned),
    )  # fmt: skip


def _shown(name: str, arm: _Arm, traffic: int, even: int | None) -> ArmCost:
    month = None if arm.request is None or arm.hosting_month is None else arm.request * traffic + arm.hosting_month
    return ArmCost(
        name=name, place=arm.place, currency=arm.currency, input_tokens=arm.tokens[0], output_tokens=arm.tokens[1], per_request=arm.request,
        month=month, break_even_requests=even,
    )  # fmt: skip


def _trainings(arms: Mapping[str, _Arm], places: Mapping[str, Place]) -> tuple[TrainingCost, ...]:
    train = dict.fromkeys(arm.place for name, arm in arms.items() if is_tuned(name))
    return tuple(
        TrainingCost(
            place=where, model=places[where].rates.model, currency=places[where].rates.currency, tokens=places[where].tokens,
            seconds=places[where].seconds, training=places[where].training, hosting_month=places[where].rates.hosting_month,
        )
        for where in train
    )  # fmt: skip


def _notes(arms: Mapping[str, _Arm], tuned: str | None, untuned: str | None, traffic: int) -> list[str]:
    notes: list[str] = []
    unpriced = dict.fromkeys(arm.place for arm in arms.values() if arm.request is None)
    if unpriced:
        notes.append(f"Prices of {', '.join(unpriced)} are not known: write them into prices.toml, and the region into regions.toml, in the settings folder.")
    elif tuned and untuned and arms[tuned].currency != arms[untuned].currency:
        notes.append(f"{tuned} is priced in {arms[tuned].currency} and {untuned} in {arms[untuned].currency}: they are not compared.")
    if not traffic:
        notes.append("No traffic is stated ([traffic] requests_per_month), so monthly amounts are those of hosting alone.")
    return notes


def logical_tokens(events: Path) -> int:
    """As a log tells; a step that was repeated after a kill counts once."""
    if not events.is_file():
        return 0
    steps = [e for line in events.read_text(encoding="utf-8").splitlines() if isinstance(e := TRAIN_EVENT.validate_json(line), Step)]
    return sum({e.step: e.logical_tokens for e in steps}.values())

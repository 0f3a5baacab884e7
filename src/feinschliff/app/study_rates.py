"""At whose prices a study's arms are answered and trained: this machine's, and those of the providers that it asks."""
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from feinschliff.app.remote_admission import answering_there, hosted_name, remote_place
from feinschliff.catalog.market import Market
from feinschliff.catalog.prices import Price, Prices
from feinschliff.core.errors import FeinschliffError, NoPrice
from feinschliff.core.study import Prices as StudyPrices
from feinschliff.core.study import Study
from feinschliff.evals.cost import HOURS_PER_MONTH

HERE = ""  # this machine, beside the names of `[hosted]`


@dataclass(frozen=True, slots=True)
class Rates:
    """One place's prices as functions. `training(tokens, seconds)` is None where it needs seconds that nobody knows, or a price."""

    model: str
    currency: str
    training: Callable[[int, float | None], float | None]
    hosting_hour: float | None
    request: Callable[[float, float, bool], float | None]  # input tokens, output tokens, tuned
    here: bool  # on one's own machine: what a study measured of time holds

    @property
    def hosting_month(self) -> float | None:
        return None if self.hosting_hour is None else self.hosting_hour * HOURS_PER_MONTH


@dataclass(frozen=True, slots=True)
class Place:
    """A place, and what training there takes: tokens over all epochs, seconds; `charged` is what its provider asked for it."""

    rates: Rates
    tokens: int = 0
    seconds: float | None = None
    charged: float | None = None

    @property
    def training(self) -> float | None:
        return self.rates.training(self.tokens, self.seconds) if self.charged is None else self.charged


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


def rates_of_hosts(study: Study, market: Market) -> dict[str, Rates]:
    """Of the study's hosted models, by their names there."""
    return {name: _of_host(study, name, market) for name in study.hosted}


def _of_host(study: Study, name: str, market: Market) -> Rates:
    """What is not known of its prices is None: a region that is not configured here, or a model without a price."""
    hosted = study.hosted[name]
    try:
        model = answering_there(market, hosted.model, remote_place(market.regions, hosted.region, market)[1])
    except FeinschliffError:
        return _unknown(hosted.model)
    price = market.prices.of(model)
    return _unknown(hosted_name(model)) if price is None else _as_far_as_known(hosted_name(model), hosted_rates(price))


def _unknown(model: str) -> Rates:
    return Rates(model=model, currency="", training=lambda t, s: None, hosting_hour=None, request=lambda i, o, tuned: None, here=False)


def _as_far_as_known(model: str, rates: Rates) -> Rates:
    def training(tokens: int, seconds: float | None) -> float | None:
        with suppress(NoPrice):
            return rates.training(tokens, seconds)
        return None

    def request(given: float, written: float, tuned: bool) -> float | None:
        with suppress(NoPrice):
            return rates.request(given, written, tuned)
        return None

    return Rates(model=model, currency=rates.currency, training=training, hosting_hour=rates.hosting_hour, request=request, here=False)

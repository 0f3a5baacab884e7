"""Whether a job may go to a remote region, and what it will cost: asked before anything is uploaded."""
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

from feinschliff.catalog.billing import Budget, Spent, check_budget
from feinschliff.catalog.market import Market
from feinschliff.catalog.models import CatalogModel
from feinschliff.catalog.offers import check_offered, check_residency, notices, offered
from feinschliff.catalog.regions import Azure, OpenAi, Regions
from feinschliff.catalog.workload import Counted, work_of
from feinschliff.core.errors import NotOffered
from feinschliff.core.finetune import TuningHyperparameters

RemotePlace = Azure | OpenAi


@dataclass(frozen=True, slots=True)
class Estimate:
    """`tokens` over all epochs, at least; `money` None where the price is not known."""

    tokens: int
    money: float | None
    currency: str
    notices: tuple[str, ...]


def remote_place(regions: Regions, name: str, market: Market) -> tuple[str, RemotePlace]:
    """Raises RegionNotConfigured, NotOffered for a region that is no provider's."""
    own, place = regions.find(name, market.models)
    if not isinstance(place, Azure | OpenAi):
        raise NotOffered(
            f"{own} is of the kind '{place.kind}': its jobs do not go to a provider.",
            hint="Jobs of this machine: `feinschliff serve`, or a study without a region.",
        )
    return own, place


def model_there(market: Market, name: str, region: str, today: date) -> CatalogModel:
    """The model of that name that the region tunes. Raises ModelUnavailable, NotOffered with where it is tuned."""
    place = market.regions.regions[region]
    there = [m for m in _called(market, name) if offered(m, place)]
    chosen = there[-1] if there else market.models.find(name)
    check_offered(chosen, region, market.regions, today)
    return chosen


def answering_there(market: Market, name: str, place: RemotePlace) -> CatalogModel:
    """The model of that name that the region's provider has, tuned there or not. Raises ModelUnavailable, NotOffered."""
    there = [m for m in _called(market, name) if m.provider == place.kind]
    if not there:
        other = market.models.find(name)
        raise NotOffered(f"{other.id} is not a model of the provider '{place.kind}'.", hint="feinschliff catalog models --region REGION")
    return there[-1]


def _called(market: Market, name: str) -> list[CatalogModel]:
    return [m for m in market.models.models if name.lower() in (n.lower() for n in m.names)]


def hosted_name(model: CatalogModel) -> str:
    """As jobs name it at its provider: with the version, where that is a date."""
    return f"{model.id}-{model.version}" if model.version and model.version[:2] == "20" and not model.id.endswith(model.version) else model.id


def admit(
    market: Market, region: str, model: CatalogModel, counted: Counted, wanted: TuningHyperparameters, spent: Spent,
    stays_in: Collection[str], today: date,
) -> Estimate:  # fmt: skip
    """Raises NotOffered for data that may not go there, OverBudget."""
    place = market.regions.regions[region]
    check_residency(stays_in, region, place)
    work = work_of(counted, wanted)
    tokens = work.epochs * work.per_epoch
    price = market.prices.of(model)
    known = price is not None and price.training_million_tokens is not None  # by the hour, nobody knows before
    money = price.training(tokens=tokens, seconds=0.0) if price is not None and known else None
    currency = price.currency if price else "USD"
    asked = Spent(training_tokens=tokens, money=money or 0.0, jobs=1)
    check_budget(asked, [Budget(f"region {region}", place.quota, spent)], currency, at_least=not counted.exact)
    return Estimate(tokens, money, currency, notices(model, place, today))

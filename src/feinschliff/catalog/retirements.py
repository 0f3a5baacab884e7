"""Tuned models that die with their base, and what to train instead."""
from collections.abc import Sequence
from datetime import date

from feinschliff.catalog.facts import NOTICE
from feinschliff.catalog.models import Catalog, CatalogModel, Provider
from feinschliff.catalog.prices import Price, Prices
from feinschliff.catalog.query import tunable
from feinschliff.core.chat import Wire
from feinschliff.core.errors import ModelUnavailable


class TunedModel(Wire):
    """A model of one's own: its base as the catalogue names it, the study it came from, and the tokens it was trained on."""

    name: str
    base: str
    provider: Provider | None = None  # None: as the catalogue finds the base
    study: str | None = None
    trained_tokens: int = 0  # over all epochs


class Retirement(Wire):
    """One tuned model that ends. `estimated_price` is of training the same tokens on the successor, None where no price is known."""

    model: str
    base: str
    study: str | None
    answers_until: date
    days: int  # from today; negative: it is over
    warned: bool  # within 90 days
    recommended: str | None  # by the base's provider, whether it can be tuned or not
    successor: str | None  # in the catalogue, and can be tuned
    estimated_price: float | None
    currency: str | None


def retirements(tuned: Sequence[TunedModel], catalog: Catalog, prices: Prices, today: date) -> tuple[Retirement, ...]:
    """Those whose base has an end, the soonest first. Models on weights of one's own have none, nor those the catalogue does not know."""
    found = [r for model in tuned if (r := _retirement(model, catalog, prices, today)) is not None]
    return tuple(sorted(found, key=lambda r: (r.answers_until, r.model)))


def _retirement(tuned: TunedModel, catalog: Catalog, prices: Prices, today: date) -> Retirement | None:
    try:
        base = catalog.find(tuned.base, tuned.provider)
    except ModelUnavailable:
        return None
    until = base.lifecycle.inference_until
    if until is None or (base.sources and tuned.provider in (None, "local")):
        return None
    successor = _successor(base, catalog, today)
    price = prices.of(successor) if successor else None
    return Retirement(
        model=tuned.name, base=base.id, study=tuned.study, answers_until=until, days=(until - today).days,
        warned=until - today <= NOTICE, recommended=base.lifecycle.replacement, successor=successor.id if successor else None,
        estimated_price=_training(price, tuned.trained_tokens), currency=price.currency if price else None,
    )  # fmt: skip


def _successor(base: CatalogModel, catalog: Catalog, today: date) -> CatalogModel | None:
    """What the provider recommends, where it can be tuned; else the one at the same provider that lasts longest; else the largest open one."""
    others = [m for m in catalog.models if m.key != base.key and tunable(m) and m.kind == base.kind]
    hosted = [m for m in others if m.provider == base.provider and m.lifecycle.can_be_tuned(today) and _end(m) > _end(base)]
    for model in hosted:
        if base.lifecycle.replacement in model.names:
            return model
    if hosted:
        return max(hosted, key=lambda m: (_end(m), m.parameters or 0))
    return max((m for m in others if m.provider == "local"), key=lambda m: m.parameters or 0, default=None)


def _end(model: CatalogModel) -> date:
    return model.lifecycle.inference_until or date.max


def _training(price: Price | None, tokens: int) -> float | None:
    """None where the price is not known, or is by time, which a token count does not tell."""
    if price is None or price.training_million_tokens is None or not tokens:
        return None
    return price.training(tokens=tokens, seconds=0.0)

"""Tuned models that die with their base."""
from datetime import date

from feinschliff.catalog.models import load_catalog
from feinschliff.catalog.prices import load_prices
from feinschliff.catalog.retirements import TunedModel, retirements

CATALOG, PRICES, TODAY = load_catalog(), load_prices(), date(2026, 11, 23)
TUNED = (
    TunedModel(name="mine", base="gpt-4o", provider="azure", study="tickets", trained_tokens=2_000_000),
    TunedModel(name="ours", base="gpt-4.1-2025-04-14", provider="openai", study="atlas", trained_tokens=1_000_000),
    TunedModel(name="here", base="Meta-Llama-3.1-8b-Instruct"),
    TunedModel(name="small", base="smollm2-135m-instruct", study="zog"),
    TunedModel(name="strange", base="/models/house"),
)


def found(today=TODAY):
    return {r.model: r for r in retirements(TUNED, CATALOG, PRICES, today)}


def test_the_soonest_comes_first_and_models_on_own_weights_do_not_end():
    assert list(found()) == ["ours", "mine"]


def test_days_and_warnings_are_of_the_given_day():
    ours = found()["ours"]
    assert (ours.answers_until, ours.days, ours.warned, ours.study) == (date(2027, 1, 14), 52, True, "atlas")
    assert not found()["mine"].warned
    assert found(date(2027, 7, 3))["mine"].warned
    assert found(date(2027, 2, 1))["ours"].days < 0


def test_a_hosted_successor_lasts_longer_and_has_its_price():
    mine = found()["mine"]
    successor = CATALOG.find(mine.successor, "azure")
    assert successor.lifecycle.inference_until is None or successor.lifecycle.inference_until > mine.answers_until
    assert successor.lifecycle.can_be_tuned(TODAY)
    assert mine.recommended == "gpt-5.1"


def test_where_the_provider_has_none_left_it_is_an_open_model():
    ours = found()["ours"]  # everything at OpenAI ends on the same day
    assert CATALOG.find(ours.successor).provider == "local"
    assert ours.recommended == "gpt-6-luna"
    assert ours.estimated_price is None


def test_the_price_is_of_the_same_tokens():
    older = TunedModel(name="old", base="gpt-4.1-nano-2025-04-14", provider="openai", trained_tokens=3_000_000)
    (ended,) = retirements((older,), CATALOG, PRICES, TODAY)
    price = PRICES.of(CATALOG.find(ended.successor, "openai"))
    assert ended.estimated_price == 3 * price.training_million_tokens
    assert ended.currency == "USD"

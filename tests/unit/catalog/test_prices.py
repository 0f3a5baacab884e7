"""Prices as data, and what follows from them by hand."""
import pytest

from feinschliff.catalog.models import load_catalog
from feinschliff.catalog.prices import MachinePrice, load_prices
from feinschliff.core.errors import BadStudy, NoPrice

CATALOG = load_catalog()
OWN = """
[machine]
currency = "EUR"
per_hour = 0.5
watts = 400
kilowatt_hour = 0.25

[[prices]]
provider = "azure"
model = "gpt-4.1"
version = "2025-04-14"
training_million_tokens = 27.5
hosting_hour = 1.7
input_million_tokens = 2.2
output_million_tokens = 8.8
source = "our invoice"
read = 2026-11-01
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "prices.toml"
    file.write_text(OWN, encoding="utf-8")
    return load_prices(file)


def test_every_price_is_of_a_model_in_the_list_once_with_its_source():
    prices = load_prices().prices
    known = {(m.provider, *m.key) for m in CATALOG.models}
    assert len({(p.provider, p.model, p.version) for p in prices}) == len(prices) > 10
    assert {(p.provider, p.model, p.version) for p in prices} <= known
    assert all(p.source for p in prices)


def test_a_tuned_model_costs_more_than_its_base_at_openai():
    price = load_prices().needed(CATALOG.find("gpt-4.1-mini-2025-04-14", "openai"))
    assert price.training(tokens=2_000_000, seconds=0) == pytest.approx(10.0)
    assert price.request(1000, 100, tuned=True) == pytest.approx(0.0008 + 0.00032)
    assert price.request(1000, 100, tuned=False) == pytest.approx(0.0004 + 0.00016)


def test_at_azure_tokens_cost_the_same_and_hosting_is_by_the_hour():
    price = load_prices().needed(CATALOG.find("o4-mini", "azure"))
    assert price.request(10**6, 10**6, tuned=True) == price.request(10**6, 10**6, tuned=False) == pytest.approx(5.5)
    assert price.hosting_hour == 1.7
    assert price.training(tokens=5, seconds=4 * 3600) == pytest.approx(400.0)  # the provider's own example


def test_a_price_nobody_knows_is_an_error_with_the_remedy():
    with pytest.raises(NoPrice, match=r"gpt-4\.1 for training") as caught:
        load_prices().needed(CATALOG.find("gpt-4.1", "azure")).training(tokens=1, seconds=1)
    assert "prices.toml" in caught.value.hint
    with pytest.raises(NoPrice, match="Ministral-3B"):
        load_prices().needed(CATALOG.find("Ministral-3B"))


def test_own_prices_replace_and_the_machine_is_ones_own(own):
    assert own.needed(CATALOG.find("gpt-4.1", "azure")).training(tokens=2_000_000, seconds=0) == pytest.approx(55.0)
    assert len(own.prices) == len(load_prices().prices)
    assert own.machine_hour == pytest.approx(0.5 + 0.4 * 0.25)
    assert load_prices().machine_hour == 0
    assert MachinePrice(watts=100, kilowatt_hour=0.3).hour == pytest.approx(0.03)


@pytest.mark.parametrize("text", ["[machine]\nper_hour = -1", "[[prices]]\nmodel = 'x'", "=", "[machine]\nwatt = 5"])
def test_a_malformed_file_is_named(tmp_path, text):
    file = tmp_path / "prices.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadStudy, match=r"prices\.toml"):
        load_prices(file)

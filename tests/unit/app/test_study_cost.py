"""Cost sheets from a study's own prices, a machine's and a provider's."""
from datetime import date

import pytest

from feinschliff.app.study_cost import logical_tokens, sheet
from feinschliff.app.study_rates import HERE, Place, hosted_rates, own_rates, rates_of_hosts
from feinschliff.catalog.market import load_market
from feinschliff.catalog.prices import MachinePrice, Price, Prices
from feinschliff.core.jobs import Step
from feinschliff.core.study import Data, Goal, GraderSpec, Hosted, Study, Traffic
from feinschliff.core.study import Prices as StudyPrices
from feinschliff.evals.cost import HOURS_PER_MONTH
from remote_settings import hosted_model, price, resource

ARMS = {"prompt": (2000.0, 100.0), "tuned": (200.0, 50.0)}
OF_STUDY = StudyPrices(machine_hour=2.0, hosting_hour=0.5, input_million_tokens=1.0, output_million_tokens=4.0)


def study(requests=1_000_000, arms=("tuned",), **hosted):
    return Study(
        name="s", task="t", why="w", arms=arms, hosted=hosted, data=Data(files=("d",)),
        graders=(GraderSpec(name="exact", type="exact"),), goal=Goal(grader="exact", at_least=0.5), traffic=Traffic(requests_per_month=requests),
    )  # fmt: skip


def made(rates, *, seconds=5400.0, tuned="tuned", requests=1_000_000):
    return sheet(study(requests), {HERE: Place(rates, 1_000_000, seconds)}, "measured", ARMS, tuned, "prompt", None, [])


def test_on_ones_own_machine_as_in_the_report():
    found = made(own_rates("m", OF_STUDY, Prices()))
    assert found.training == pytest.approx(3.0)
    assert found.hosting_month == pytest.approx(0.5 * HOURS_PER_MONTH)
    assert found.break_even_requests == 1835  # as evals.cost has it by hand
    assert {a.name: a.month for a in found.arms} == pytest.approx({"prompt": 2400.0, "tuned": 400.0 + 365.0})
    assert found.curve[4].requests == 1835


def test_the_machines_price_stands_in_where_the_study_has_none():
    machine = Prices(machine=MachinePrice(currency="EUR", watts=500, kilowatt_hour=0.4))
    found = made(own_rates("m", StudyPrices(), machine))
    assert (found.training, found.currency) == (pytest.approx(1.5 * 0.2), "EUR")
    assert made(own_rates("m", OF_STUDY, machine)).currency == "USD"
    assert made(own_rates("m", StudyPrices(), Prices())).training == 0
    assert made(own_rates("m", OF_STUDY, Prices()), seconds=None).training is None


def test_at_a_provider_training_is_by_token_or_by_hour():
    base = {"provider": "azure", "model": "g", "hosting_hour": 1.7, "input_million_tokens": 2, "output_million_tokens": 8, "source": "s", "read": date(2026, 1, 1)}
    by_token = made(hosted_rates(Price.model_validate(base | {"training_million_tokens": 25})))
    assert by_token.training == pytest.approx(25.0)
    assert by_token.hosting_month == pytest.approx(1.7 * HOURS_PER_MONTH)
    by_hour = hosted_rates(Price.model_validate(base | {"training_hour": 100}))
    assert made(by_hour).training == pytest.approx(150.0)
    unknown = made(by_hour, seconds=None)
    assert (unknown.training, unknown.break_even_requests, unknown.curve) == (None, None, ())


def test_nothing_tuned_costs_nothing_to_train():
    found = made(own_rates("m", OF_STUDY, Prices()), tuned=None)
    assert (found.training, found.hosting_month, found.curve) == (0.0, 0.0, ())


FAR = Hosted(region="resource", model="far")
BOTH = {"base": (300.0, 100.0), "tuned": (200.0, 50.0), "azure": (2000.0, 100.0), "azure+tuned": (200.0, 50.0)}


def far(tmp_path, *, priced=True):
    """The rates of a region of regions.toml, by prices.toml: 20 for a million trained tokens, 2 in, 8 out, 1.5 an hour."""
    texts = {"regions": resource("http://127.0.0.1:9"), "models": hosted_model("far"), "prices": price("far") if priced else ""}
    for name, text in texts.items():
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    return rates_of_hosts(study(arms=("azure",), azure=FAR), load_market(tmp_path))["azure"]


def of_both(own, there, tuned="azure+tuned", untuned="azure", charged=None):
    places = {HERE: Place(own, 1_000_000, 5400.0), "azure": Place(there, 2_000_000, charged=charged)}
    return sheet(study(arms=tuple(BOTH), azure=FAR), places, "measured", BOTH, tuned, untuned, None, [])


def test_arms_that_are_answered_elsewhere_have_their_providers_prices(tmp_path):
    found = of_both(own_rates("m", OF_STUDY, Prices()), far(tmp_path))
    arms = {a.name: a for a in found.arms}
    assert arms["azure"].per_request == pytest.approx((2000 * 2 + 100 * 8) / 1e6)
    assert arms["azure+tuned"].month == pytest.approx(1e6 * (200 * 2 + 50 * 8) / 1e6 + 1.5 * HOURS_PER_MONTH)
    assert arms["tuned"].per_request == pytest.approx((200 + 50 * 4) / 1e6)  # this machine's, of the study
    assert (found.model, found.training, found.training_tokens) == ("far", pytest.approx(40.0), 2_000_000)
    assert {t.place: t.training for t in found.trainings} == pytest.approx({HERE: 3.0, "azure": 40.0})
    # 40 for training, 1,095 of hosting a month for a million requests, 0.004 saved by each: 40 / (0.004 - 0.001095)
    assert found.break_even_requests == arms["azure+tuned"].break_even_requests == 13770
    # this machine's against the provider's: 3 / (0.0048 - 0.0004 - 0.000365)
    assert arms["tuned"].break_even_requests == 744
    assert (arms["base"].break_even_requests, arms["azure"].break_even_requests) == (None, None)
    assert found.curve[4].requests == 13770
    assert found.curve[4].tuned <= found.curve[4].untuned


def test_what_a_provider_charged_comes_before_what_its_prices_say(tmp_path):
    assert of_both(own_rates("m", OF_STUDY, Prices()), far(tmp_path), charged=12.5).training == 12.5


def test_prices_that_are_not_known_and_other_currencies_are_said_and_not_compared(tmp_path):
    own = own_rates("m", OF_STUDY, Prices())
    unknown = of_both(own, far(tmp_path, priced=False))
    assert (unknown.training, unknown.break_even_requests, unknown.curve) == (None, None, ())
    assert any("Prices of azure are not known" in note for note in unknown.notes)
    euros = own_rates("m", OF_STUDY.model_copy(update={"currency": "EUR"}), Prices())
    mixed = of_both(euros, far(tmp_path), tuned="tuned")
    assert (mixed.break_even_requests, mixed.curve, mixed.training, mixed.currency) == (None, (), pytest.approx(3.0), "EUR")
    assert any("tuned is priced in EUR and azure in USD" in note for note in mixed.notes)
    nowhere = rates_of_hosts(study(arms=("azure",), azure=Hosted(region="nowhere", model="far")), load_market(tmp_path))
    assert nowhere["azure"].training(1000, None) is None


def test_no_traffic_is_said():
    assert any("No traffic" in note for note in made(own_rates("m", OF_STUDY, Prices()), requests=0).notes)


def test_repeated_steps_are_counted_once(tmp_path):
    def step(number, tokens):
        return Step(
            step=number, total_steps=3, epoch=1.0, train_loss=1.0, train_token_accuracy=0.5, learning_rate=0.1, grad_norm=1.0, trained_tokens=1,
            logical_tokens=tokens, computed_tokens=1, seconds=1.0, eta_s=1.0,
        ).model_dump_json()  # fmt: skip

    log = tmp_path / "events.jsonl"
    log.write_text("\n".join([step(1, 10), step(2, 20), step(2, 20), step(3, 5)]) + "\n", encoding="utf-8")
    assert logical_tokens(log) == 35
    assert logical_tokens(tmp_path / "none.jsonl") == 0

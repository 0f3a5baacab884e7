"""Cost sheets from a study's own prices, a machine's and a provider's."""
from datetime import date

import pytest

from feinschliff.app.study_cost import hosted_rates, logical_tokens, own_rates, sheet
from feinschliff.catalog.prices import MachinePrice, Price, Prices
from feinschliff.core.jobs import Step
from feinschliff.core.study import Data, Goal, GraderSpec, Study, Traffic
from feinschliff.core.study import Prices as StudyPrices
from feinschliff.evals.cost import HOURS_PER_MONTH

ARMS = {"prompt": (2000.0, 100.0), "tuned": (200.0, 50.0)}
OF_STUDY = StudyPrices(machine_hour=2.0, hosting_hour=0.5, input_million_tokens=1.0, output_million_tokens=4.0)


def study(requests=1_000_000):
    return Study(
        name="s", task="t", why="w", arms=tuple(a for a in ARMS if a != "prompt"), data=Data(files=("d",)),
        graders=(GraderSpec(name="exact", type="exact"),), goal=Goal(grader="exact", at_least=0.5), traffic=Traffic(requests_per_month=requests),
    )  # fmt: skip


def made(rates, *, seconds=5400.0, tuned="tuned", requests=1_000_000):
    return sheet(study(requests), rates, "measured", ARMS, 1_000_000, seconds, tuned, "prompt", None, [])


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

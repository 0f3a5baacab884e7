"""What an arm costs and when it pays off."""
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feinschliff.core.study import Prices, Traffic
from feinschliff.evals.cost import NEVER, Usage, break_even_requests, cost, curve

PRICES = Prices(machine_hour=2.0, hosting_hour=0.5, input_million_tokens=1.0, output_million_tokens=4.0)
PROMPTED = Usage(input_tokens=2000, output_tokens=100)
TUNED = Usage(input_tokens=200, output_tokens=50, training_s=5400, tuned=True)
RIVAL = cost(PRICES, Traffic(), PROMPTED, None)
money = st.floats(0, 1e5, allow_nan=False)


def test_cost_of_a_tuned_arm_by_hand():
    c = cost(PRICES, Traffic(requests_per_month=1_000_000), TUNED, RIVAL)
    assert c.training == pytest.approx(3.0)
    assert c.hosting_month == pytest.approx(365.0)
    assert c.per_request == pytest.approx(0.0004)
    # saves 0.0024 - 0.0004 = 0.002 a request, of which 365 / 1e6 = 0.000365 goes into hosting
    assert c.break_even_requests == 1835  # ceil(3 / 0.001635)


def test_untuned_arms_have_neither_training_nor_hosting():
    c = cost(PRICES, Traffic(requests_per_month=10), PROMPTED, RIVAL)
    assert (c.training, c.hosting_month, c.break_even_requests) == (0.0, 0.0, None)


def test_hosting_without_enough_traffic_never_breaks_even():
    assert cost(PRICES, Traffic(requests_per_month=1000), TUNED, RIVAL).break_even_requests is None
    assert cost(PRICES, Traffic(), TUNED, RIVAL).break_even_requests is None
    free_hosting = PRICES.model_copy(update={"hosting_hour": 0.0})
    assert cost(free_hosting, Traffic(), TUNED, RIVAL).break_even_requests == pytest.approx(1500, abs=1)
    assert cost(free_hosting, Traffic(), TUNED, None).break_even_requests is None


@given(money, money, st.floats(-1, 1), st.integers(0, 10**8))
def test_break_even_is_the_first_request_count_that_pays(training, hosting, saving, traffic):
    n = break_even_requests(training=training, hosting_month=hosting, saving_per_request=saving, requests_per_month=traffic)

    def ahead(requests):
        months = Fraction(requests, traffic) if traffic else Fraction(0)
        return requests * Fraction(saving) - Fraction(training) - months * Fraction(hosting)

    if n is None:
        lasting = saving <= 0 or (hosting > 0 and traffic == 0) or (traffic and Fraction(saving) * traffic <= Fraction(hosting))
        assert lasting or ahead(NEVER) < 0
    else:
        assert ahead(n) >= 0
        assert n == 0 or ahead(n - 1) < 0


@given(money, st.floats(1e-6, 1), st.integers(1, 10**8))
def test_more_training_never_breaks_even_sooner(training, saving, traffic):
    def at(cost_of_training):
        return break_even_requests(
            training=cost_of_training, hosting_month=0, saving_per_request=saving, requests_per_month=traffic
        )

    assert at(training) <= at(training + 1)


def test_the_curve_crosses_at_the_break_even():
    costs = {"training": 3.0, "hosting_month": 365.0, "requests_per_month": 1_000_000}
    n = break_even_requests(saving_per_request=0.002, **costs)
    points = curve(tuned_request=0.0004, untuned_request=0.0024, break_even=n, **costs)
    assert [p.requests for p in points] == [2 * n * i // 8 for i in range(9)]
    assert (points[0].tuned, points[0].untuned) == (3.0, 0.0)
    assert points[3].tuned > points[3].untuned
    assert points[4].requests == n
    assert points[4].tuned == pytest.approx(points[4].untuned, rel=1e-3)
    assert points[4].tuned <= points[4].untuned
    assert points[5].tuned < points[5].untuned


def test_without_a_break_even_the_curve_shows_a_year():
    points = curve(training=3, hosting_month=100, tuned_request=0, untuned_request=1e-6, requests_per_month=1000, break_even=None)
    assert points[-1].requests == 12_000
    assert points[-1].tuned == pytest.approx(3 + 1200)
    assert curve(training=3, hosting_month=0, tuned_request=1, untuned_request=1, requests_per_month=0, break_even=None) == ()

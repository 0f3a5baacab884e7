"""What a job is charged, and which budgets let it start."""
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feinschliff.catalog.billing import (
    Budget,
    JobRecord,
    Period,
    Spent,
    check_budget,
    hosted_charge,
    machine_charge,
)
from feinschliff.catalog.prices import MachinePrice, Price
from feinschliff.catalog.regions import Quota
from feinschliff.core.errors import OverBudget

BY_TOKEN = Price(provider="openai", model="m", training_million_tokens=10.0, source="s", read=date(2026, 1, 1))
BY_HOUR = Price(provider="azure", model="o", training_hour=100.0, source="s", read=date(2026, 1, 1))
HERE = MachinePrice(per_hour=2.0)
LIFE = (
    Period(phase="queued", seconds=7200), Period(phase="validating", seconds=1800), Period(phase="running", seconds=3600),
    Period(phase="paused", seconds=86_400), Period(phase="running", seconds=3600),
)  # fmt: skip


def record(outcome, periods=LIFE, tokens=500_000):
    return JobRecord(outcome=outcome, periods=periods, trained_tokens=tokens)


@pytest.mark.parametrize(("outcome", "charged"), [("succeeded", True), ("cancelled", True), ("running", True), ("failed", False)])
def test_failed_jobs_are_free_and_cancelled_ones_pay_for_what_was_done(outcome, charged):
    done = record(outcome)
    assert hosted_charge(BY_TOKEN, done) == pytest.approx(5.0 * charged)
    assert hosted_charge(BY_HOUR, done) == pytest.approx(200.0 * charged)
    assert machine_charge(HERE, done) == pytest.approx(4.0 * charged)


def test_a_job_cancelled_before_it_trained_is_free():
    done = record("cancelled", LIFE[:2], tokens=0)
    assert hosted_charge(BY_TOKEN, done) == hosted_charge(BY_HOUR, done) == machine_charge(HERE, done) == 0


waits = st.lists(st.builds(Period, phase=st.sampled_from(["queued", "validating", "paused"]), seconds=st.floats(0, 1e6)))


@given(waits)
def test_no_waiting_of_any_kind_changes_a_charge(waiting):
    longer = record("succeeded", (*waiting, *LIFE))
    for price in (BY_TOKEN, BY_HOUR):
        assert hosted_charge(price, longer) == hosted_charge(price, record("succeeded"))
    assert machine_charge(HERE, longer) == machine_charge(HERE, record("succeeded"))


JOB = Spent(training_tokens=1_000_000, money=25.0, jobs=1)


@pytest.mark.parametrize(
    ("quota", "refused"),
    [
        (Quota(), None),
        (Quota(training_tokens_per_month=3_000_000, money_per_month=125.0, jobs_per_month=5), None),  # exactly used up
        (Quota(training_tokens_per_month=2_999_999), "2,999,999 training tokens a month, 2,000,000 used, this job needs 1,000,000"),
        (Quota(money_per_month=124.99), "124.99 USD a month, 100.00 used, this job needs 25.00"),
        (Quota(jobs_per_month=4), "4 jobs a month, 4 used, this job needs 1"),
    ],
)
def test_a_job_beyond_a_quota_is_refused_with_the_numbers(quota, refused):
    spent = Spent(training_tokens=2_000_000, money=100.0, jobs=4)
    if refused is None:
        check_budget(JOB, [Budget("region north", quota, spent)])
        return
    with pytest.raises(OverBudget) as caught:
        check_budget(JOB, [Budget("region north", quota, spent)])
    assert f"region north: {refused}" in caught.value.message
    assert caught.value.status == 402


def test_all_exceeded_quotas_are_named():
    budgets = [Budget("project", Quota(money_per_month=1.0), Spent()), Budget("north", Quota(jobs_per_month=0), Spent())]
    with pytest.raises(OverBudget) as caught:
        check_budget(JOB, budgets, "EUR")
    assert "project: 1.00 EUR" in caught.value.message
    assert "north: 0 jobs" in caught.value.message


def test_a_count_that_may_still_grow_is_told_as_such():
    with pytest.raises(OverBudget) as caught:
        check_budget(JOB, [Budget("north", Quota(training_tokens_per_month=1, jobs_per_month=0), Spent())], at_least=True)
    assert "this job needs at least 1,000,000" in caught.value.message
    assert "this job needs 1." in caught.value.message

"""When a model ends, and what is said before. The clock is handed in."""
from datetime import date, timedelta

import pytest

from feinschliff.catalog.facts import Change, Lifecycle
from feinschliff.catalog.models import load_catalog

ENDS = date(2027, 3, 1)
LIFE = Lifecycle(listed_as="preview", fine_tuning_until=ENDS, inference_until=ENDS + timedelta(days=365))


@pytest.mark.parametrize(
    ("days_before", "sentence"),
    [
        (91, None), (90, "Fine-tuning ends on 2027-03-01, in 90 days."), (1, "Fine-tuning ends on 2027-03-01, in 1 day."),
        (0, "Fine-tuning ended on 2027-03-01."),
    ],
)  # fmt: skip
def test_warnings_begin_90_days_before_a_date(days_before, sentence):
    assert LIFE.warnings(ENDS - timedelta(days=days_before)) == ((sentence,) if sentence else ())


def test_both_ends_are_warned_of():
    assert len(LIFE.warnings(ENDS + timedelta(days=300))) == 2


@pytest.mark.parametrize(
    ("days_after", "stage", "tuned"), [(-1, "preview", True), (0, "deprecating", False), (364, "deprecating", False), (365, "retired", False)]
)
def test_stage_follows_the_dates(days_after, stage, tuned):
    day = ENDS + timedelta(days=days_after)
    assert (LIFE.stage(day), LIFE.can_be_tuned(day)) == (stage, tuned)


def test_the_last_announcement_counts_from_its_day():
    life = Lifecycle(
        changes=(Change(stage="retired", on=date(2026, 5, 1), source="s"), Change(stage="deprecating", on=date(2026, 2, 1), source="s"))
    )
    assert [life.stage(date(2026, m, 1)) for m in (1, 2, 4, 5)] == ["available", "deprecating", "deprecating", "retired"]
    assert life.can_be_tuned(date(2026, 4, 1))
    assert not life.can_be_tuned(date(2026, 5, 1))


def test_what_has_no_dates_lasts():
    assert Lifecycle().stage(date(2100, 1, 1)) == "available"
    assert Lifecycle().warnings(date(2100, 1, 1)) == ()


def test_known_ends_in_the_built_in_list():
    catalog = load_catalog()
    assert catalog.find("gpt-4", "azure").lifecycle.stage(date(2025, 6, 5)) == "preview"
    assert catalog.find("gpt-4", "azure").lifecycle.stage(date(2025, 6, 6)) == "retired"
    assert catalog.find("gpt-4.1-2025-04-14", "openai").lifecycle.warnings(date(2026, 11, 23)) == (
        "Fine-tuning ends on 2027-01-06, in 44 days.", "Inference ends on 2027-01-14, in 52 days.",
    )  # fmt: skip

"""Lists narrowed by region, family, task and date."""
from datetime import date

from feinschliff.catalog.models import load_catalog
from feinschliff.catalog.query import Wanted, matching, view

TODAY = date(2026, 11, 23)
CATALOG = load_catalog()


def listed(**wanted):
    return {m.id for m in matching(CATALOG, Wanted(**wanted), TODAY)}


def test_this_machine_tunes_what_has_weights():
    here = listed(region="local")
    assert {"smollm2-135m-instruct", "Phi-3-mini-4k-instruct", "gpt-oss-20b"} <= here
    assert here.isdisjoint({"gpt-4o", "Ministral-3B", "all-minilm-l6-v2"})


def test_reinforcement_only_models_are_not_for_our_jobs():
    assert "o4-mini" in listed(family="Azure OpenAI")
    assert "o4-mini" not in listed(family="azure openai", task="fine-tune")
    assert listed(task="embedding") == {"all-minilm-l6-v2"}


def test_current_leaves_out_what_is_over():
    now, in_2028 = (
        {m.id for m in matching(CATALOG, Wanted(current=True), day)} for day in (TODAY, date(2028, 1, 1))
    )
    assert now.isdisjoint({"babbage-002", "gpt-4", "gpt-35-turbo"})
    assert {"gpt-4.1", "gpt-4.1-2025-04-14"} <= now
    assert in_2028.isdisjoint({"gpt-4.1", "gpt-4.1-2025-04-14"})
    assert "Meta-Llama-3.1-8b-Instruct" in now  # retired in Azure, but anybody may keep the weights


def test_nothing_fits_a_place_that_nobody_knows():
    assert listed(region="Atlantis") == set()


def test_view_has_every_fact_and_todays_stage():
    found = view(CATALOG.find("gpt-4o", "azure"), TODAY)
    assert found.lifecycle.stage == "deprecating"
    assert found.lifecycle.listed_as == "preview"
    assert found.lifecycle.fine_tuning_until == date(2027, 4, 1)
    assert not found.open_weights
    assert view(CATALOG.find("gpt-oss-20b"), TODAY).open_weights

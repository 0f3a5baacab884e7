"""Regions: what a file may say, how one is found, and what a region tunes."""
from datetime import date

import pytest

from feinschliff.catalog.fit import Fit
from feinschliff.catalog.models import load_catalog
from feinschliff.catalog.offers import check_fit, check_offered, check_residency, offered
from feinschliff.catalog.region_views import hardware_of, region_view
from feinschliff.catalog.regions import Azure, keeps_data, load_regions, missing_credential
from feinschliff.core.errors import BadStudy, DoesNotFit, NotOffered, RegionNotConfigured

TODAY = date(2026, 11, 23)
CATALOG = load_catalog()
OWN = """
[regions.cluster]
kind = "ray"
address = "ray://head:10001"
concurrency = 4
memory_gb = 80
teraflops = 300

[regions.north]
kind = "azure"
location = "Sweden Central"
endpoint = "https://r.openai.azure.com"
api_version = "2024-10-21"
key_env = "NORTH_KEY"
quota = { training_tokens_per_month = 1_000_000, money_per_month = 50.0, jobs_per_month = 3 }

[regions.spare]
kind = "azure"
location = "Sweden Central"
endpoint = "https://s.openai.azure.com"
api_version = "2024-10-21"
credential = "entra"
training = "developer"

[regions.east]
kind = "azure"
location = "East US 2"
endpoint = "https://e.openai.azure.com"
api_version = "2024-10-21"

[regions.openai]
kind = "openai"
"""


@pytest.fixture(scope="module")
def regions(tmp_path_factory):
    file = tmp_path_factory.mktemp("settings") / "regions.toml"
    file.write_text(OWN, encoding="utf-8")
    return load_regions(file)


def can(regions, name):
    return {m.id for m in CATALOG.models if offered(m, regions.regions[name])}


def test_out_of_the_box_there_is_this_machine():
    regions = load_regions()
    assert list(regions.regions) == ["local"]
    assert regions.regions["local"].kind == "machine"
    assert regions.find("Local", CATALOG)[0] == "local"


def test_own_regions_are_added(regions):
    assert set(regions.regions) == {"local", "cluster", "north", "spare", "east", "openai"}
    north = regions.regions["north"]
    assert isinstance(north, Azure)
    assert north.quota.jobs_per_month == 3


@pytest.mark.parametrize("text", ["[regions.x]\nkind = 'moon'", "[regions.x]\nkind = 'azure'\nlocation = 'a'", "[regions.x]\nkind = 'machine'\nkey = 'sk-1'", "["])
def test_a_malformed_file_is_named(tmp_path, text):
    file = tmp_path / "regions.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadStudy, match=r"regions\.toml"):
        load_regions(file)


def test_found_by_name_or_by_a_location_that_only_one_has(regions):
    assert regions.find("NORTH", CATALOG)[0] == "north"
    assert regions.find("eastus2", CATALOG)[0] == "east"
    with pytest.raises(RegionNotConfigured, match="north, spare"):
        regions.find("swedencentral", CATALOG)


def test_a_known_place_that_nobody_configured_says_how():
    with pytest.raises(RegionNotConfigured, match="Switzerland West is not configured") as caught:
        load_regions().find("switzerlandwest", CATALOG)
    assert '[regions.switzerlandwest]\nkind = "azure"\nlocation = "Switzerland West"' in caught.value.hint


def test_what_the_hint_says_to_write_can_be_read_and_is_then_found(tmp_path):
    for place in ("West US 3", "OpenAI", "Global"):
        with pytest.raises(RegionNotConfigured) as caught:
            load_regions().find(place, CATALOG)
        file = tmp_path / "regions.toml"
        file.write_text(caught.value.hint.partition("\n")[2], encoding="utf-8")
        added = load_regions(file)
        name = next(n for n in added.regions if n != "local")
        assert any(offered(m, added.regions[name]) for m in CATALOG.models if place in m.fine_tune_regions)


def test_an_unknown_place_names_the_nearest():
    with pytest.raises(RegionNotConfigured) as caught:
        load_regions().find("Sweden Centrall", CATALOG)
    assert "Did you mean 'Sweden Central'?" in caught.value.hint
    with pytest.raises(RegionNotConfigured) as caught:
        load_regions().find("xyz", CATALOG)
    assert "Did you mean" not in caught.value.hint


def test_what_each_kind_of_region_tunes(regions):
    assert can(regions, "cluster") == can(regions, "local") >= {"smollm2-135m-instruct", "Phi-3-mini-4k-instruct"}
    assert can(regions, "north") >= {"gpt-4o", "gpt-4.1", "babbage-002"}
    assert can(regions, "north").isdisjoint({"Phi-3-mini-4k-instruct", "o4-mini", "Qwen-32B"})
    assert can(regions, "spare") >= {"gpt-4.1", "Qwen-32B", "gpt-oss-20b"}
    assert "gpt-4" not in can(regions, "spare")
    assert "Phi-3-mini-4k-instruct" in can(regions, "east")
    assert can(regions, "openai") >= {"gpt-4.1-2025-04-14"}


def test_a_model_elsewhere_is_refused_with_the_regions_that_have_it(regions):
    gpt = CATALOG.find("gpt-4.1", "azure")
    with pytest.raises(NotOffered, match=r"gpt-4\.1 \(2025-04-14\) is not tuned in east \(East US 2\)") as caught:
        check_offered(gpt, "east", regions, TODAY)
    assert "North Central US, Sweden Central, Global" in caught.value.hint
    assert "configured here: north, spare" in caught.value.hint
    check_offered(gpt, "north", regions, TODAY)
    with pytest.raises(NotOffered) as caught:
        check_offered(gpt, "local", regions, TODAY)
    assert "local" not in caught.value.hint.partition("Of those")[0]


def test_what_has_ended_is_refused_with_the_date(regions):
    with pytest.raises(NotOffered, match="ended on 2025-06-06") as caught:
        check_offered(CATALOG.find("gpt-4", "azure"), "north", regions, TODAY)
    assert "gpt-4o" in caught.value.hint
    check_offered(CATALOG.find("gpt-4", "azure"), "north", regions, date(2025, 1, 1))
    llama = CATALOG.find("Meta-Llama-3.1-8b-Instruct")  # retired in Azure
    check_offered(llama, "local", regions, TODAY)


def test_reinforcement_models_take_no_jobs(regions):
    with pytest.raises(NotOffered, match="by reinforcement only"):
        check_offered(CATALOG.find("o4-mini", "azure"), "east", regions, TODAY)


def test_data_that_must_stay(regions):
    north, spare, local = (regions.regions[n] for n in ("north", "spare", "local"))
    assert [keeps_data(r) for r in (north, spare, local, regions.regions["openai"])] == [True, False, True, False]
    check_residency((), "spare", spare)
    check_residency(("local",), "local", local)
    check_residency(("Sweden Central", "local"), "north", north)
    with pytest.raises(NotOffered, match="must stay in local; north"):
        check_residency(("local",), "north", north)
    with pytest.raises(NotOffered, match="does not promise that") as caught:
        check_residency(("swedencentral",), "spare", spare)
    assert "standard" in caught.value.hint


def test_credentials_are_names_of_variables(regions):
    north = regions.regions["north"]
    assert missing_credential(north, {}) == "NORTH_KEY"
    assert missing_credential(north, {"NORTH_KEY": "secret"}) is None
    assert missing_credential(regions.regions["spare"], {}) is None  # Entra
    assert missing_credential(regions.regions["local"], {}) is None


def test_a_view_lists_what_can_be_started_today(regions):
    seen = region_view("north", regions.regions["north"], CATALOG, TODAY)
    assert "gpt-4.1-2025-04-14" in seen.models
    assert all("gpt-35" not in m and "babbage" not in m for m in seen.models)
    assert (seen.location, seen.concurrency, seen.data_residency) == ("Sweden Central", 1, True)
    assert region_view("cluster", regions.regions["cluster"], CATALOG, TODAY).endpoint == "ray://head:10001"


def test_hardware_is_known_of_machines_and_clusters(regions):
    assert hardware_of("cluster", regions.regions["cluster"]).memory_bytes == 80_000_000_000
    assert hardware_of("cluster", regions.regions["cluster"]).flops_per_s == 3e14
    assert hardware_of("north", regions.regions["north"]) is None
    assert hardware_of("local", regions.regions["local"]).memory_bytes > 0


def test_a_job_that_does_not_fit_is_refused_with_what_does():
    found = Fit(verdict="too_large", needs_bytes=9, least_bytes=8, usable_bytes=1, seconds=None, why="8 GB at least", nearest=("LoRA", "a nap"))
    with pytest.raises(DoesNotFit, match="8 GB at least") as caught:
        check_fit(found, CATALOG.find("smollm2-135m-instruct"), "local")
    assert caught.value.hint == "What fits: LoRA, or a nap."
    check_fit(found.model_copy(update={"verdict": "unknown"}), CATALOG.find("smollm2-135m-instruct"), "local")

"""projects.toml."""
import pytest

from feinschliff.catalog.projects import load_projects
from feinschliff.core.errors import BadStudy


def test_a_project_is_found_by_name_or_id_and_others_have_no_limit(tmp_path):
    file = tmp_path / "projects.toml"
    file.write_text("[projects.default.quota]\njobs_per_month = 3\n[projects.proj_x]\nquota = { money_per_month = 9.5 }\n", encoding="utf-8")
    projects = load_projects(file)
    assert projects.quota("default", "proj_default").jobs_per_month == 3
    assert projects.quota("team", "proj_x").money_per_month == 9.5
    assert set(projects.quota("other").model_dump().values()) == {None}
    assert load_projects().projects == {}


def test_a_misspelt_limit_is_an_error(tmp_path):
    file = tmp_path / "projects.toml"
    file.write_text("[projects.default.quota]\njobs_a_month = 3\n", encoding="utf-8")
    with pytest.raises(BadStudy, match="jobs_a_month"):
        load_projects(file)

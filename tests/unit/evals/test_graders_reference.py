"""docs/graders.md cannot lie."""
import dataclasses
from pathlib import Path

from feinschliff.evals.reference import render_graders_reference
from feinschliff.evals.registry import known

PAGE = Path(__file__).resolve().parents[3] / "docs" / "graders.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == render_graders_reference(), "run `make docs`"


def test_every_built_in_grader_says_what_it_is_for_and_names_its_options():
    page = render_graders_reference()
    built_in = [p for p in known().values() if p.value.startswith("feinschliff.")]
    assert len(built_in) >= 16
    for point in built_in:
        section = page.partition(f"## `{point.name}`\n")[2].partition("\n## ")[0]
        assert len(section.splitlines()[1]) > 20, point.name
        for option in dataclasses.fields(point.load()):
            assert (f"| `{option.name}` |" in section) == (option.name != "base"), (point.name, option.name)


def test_a_grader_without_a_default_is_required():
    assert '| `engine` | `"ladybug"` or `"sqlite"` or `"duckdb"` | required |' in render_graders_reference()

"""docs/report.md cannot lie."""
from pathlib import Path

from feinschliff.core.report import ArmReport, Report, Verdict
from feinschliff.report.reference import markdown

PAGE = Path(__file__).parents[3] / "docs" / "report.md"


def test_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == markdown(), "run: python -m feinschliff.report.reference docs/report.md"


def test_every_field_of_every_type_is_described():
    text = markdown()
    for model in (Report, ArmReport, Verdict):
        assert f"\n## {model.__name__}\n" in text
        for name in model.model_fields:
            assert f"| `{name}` |" in text


def test_a_written_report_reads_back_the_same(report):
    assert Report.model_validate_json(report.model_dump_json(indent=2)) == report

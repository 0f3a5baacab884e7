from pathlib import Path

from feinschliff.app.study_reference import render_study_reference

PAGE = Path(__file__).resolve().parents[3] / "docs" / "study-file.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_study_reference(), "run `make docs`"


def test_every_key_is_described() -> None:
    rows = [line.split(" | ") for line in render_study_reference().splitlines() if line.startswith("| `")]
    undescribed = [row[0] for row in rows if not row[3].strip(" |") and not row[1].startswith("table")]
    assert len(rows) > 50
    assert undescribed == []

"""Rows of any shape become chats."""
import json

import pytest

from feinschliff.core.errors import BadData
from feinschliff.core.study import Mapping
from feinschliff.data.read import read


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [{"nl": "Who?", "mr": "MATCH", "n": 1, "my field": "x"}, {"nl": "What?", "mr": None, "n": 2, "my field": "y"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_fields_system_and_metadata(path):
    result = read(path, mapping=Mapping(input="nl", output="n", system="Be brief."))
    assert [[m.content for m in e.messages] for e in result.examples] == [["Be brief.", "Who?", "1"], ["Be brief.", "What?", "2"]]
    assert result.examples[0].meta["my field"] == "x"


def test_templates_see_the_row(path):
    result = read(path, mapping=Mapping(input_template="{{ nl }} {{ row['my field'] | upper }}\n", output="n"))
    assert [e.question for e in result.examples] == ["Who? X\n", "What? Y\n"]


def test_a_missing_field_names_the_nearest(path):
    for mapping in (Mapping(input="nll", output="mr"), Mapping(input_template="{{ nll }}", output="n")):
        result = read(path, mapping=mapping)
        (finding,) = result.findings
        assert (finding.line, finding.code, result.examples) == (0, "unknown_field", ())
        assert "'nl'" in finding.hint
        assert "my field" in finding.hint


def test_an_empty_value_is_that_rows_problem(path):
    result = read(path, mapping=Mapping(input="nl", output="mr"))
    assert [(f.line, f.code) for f in result.findings] == [(2, "missing_field")]
    assert len(result.examples) == 1


@pytest.mark.parametrize("template", ["{{ row.nope }}", "{{ 1 / 0 }}", "{{ ''.__class__.__mro__ }}", "{{ nl.missing() }}"])
def test_a_failing_template_is_a_finding(path, template):
    result = read(path, mapping=Mapping(input_template=template, output="n"))
    assert {f.code for f in result.findings} == {"template_error"}
    assert result.examples == ()


def test_bad_syntax_is_refused(path):
    with pytest.raises(BadData, match="not Jinja2"):
        read(path, mapping=Mapping(input_template="{{ nl", output="n"))

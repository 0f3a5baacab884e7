"""`feinschliff data …`: exit codes, JSON, files written whole or not at all."""
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from feinschliff.cli.data import app
from feinschliff.core.chat import Example, assistant, user
from feinschliff.core.errors import BadData, FolderInUse
from feinschliff.data.convert import to_jsonl


def rows(n: int) -> bytes:
    return to_jsonl(Example(messages=(user(f"q {i} {i**3}"), assistant(str(i))), meta={"g": i % 5}) for i in range(n))


def run(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.jsonl"
    path.write_bytes(rows(100))
    return path


def test_check_of_a_clean_file(good):
    result = run("check", good)
    assert result.exit_code == 0
    assert "0 errors, 0 warnings" in result.output
    assert json.loads(run("check", good, "--json").output) == {"n_examples": 100, "n_errors": 0, "n_warnings": 0, "findings": []}


def test_check_of_a_broken_file(tmp_path, good):
    path = tmp_path / "broken.jsonl"
    path.write_bytes(good.read_bytes() + b"{'a'}\n" * 30)
    result = run("check", path)
    assert result.exit_code == 1
    assert "30 × invalid_json" in result.output
    assert "10 more" in result.output
    report = json.loads(run("check", path, "--json").output)
    assert (report["n_examples"], report["n_errors"], len(report["findings"])) == (130, 30, 30)
    assert set(report["findings"][0]) == {"line", "level", "code", "message", "hint"}


def test_check_of_what_is_not_there(tmp_path):
    result = run("check", tmp_path / "missing.jsonl")
    assert isinstance(result.exception, BadData)
    assert result.exception.exit_code == 2


def test_warnings_alone_are_no_failure(tmp_path, good):
    path = tmp_path / "a.jsonl"
    path.write_bytes(good.read_bytes() + rows(1))
    result = run("check", path, "--json")
    assert result.exit_code == 0
    assert [f["code"] for f in json.loads(result.output)["findings"]] == ["duplicate"]


@pytest.mark.parametrize("options", [("--input", "q"), ("--system", "s"), ("--format", "chatt"), ("--format", "mapped")])
def test_requests_that_make_no_sense(good, options):
    assert isinstance(run("check", good, *options).exception, BadData)


def test_convert(tmp_path):
    source, out = tmp_path / "a.csv", tmp_path / "a.jsonl"
    source.write_text("q,a,id\nhow?,so,1\n", encoding="utf-8")
    assert run("convert", source, out, "--input", "q", "--output", "a", "--system", "S").exit_code == 0
    expected = [{"role": "system", "content": "S"}, {"role": "user", "content": "how?"}, {"role": "assistant", "content": "so"}]
    assert json.loads(out.read_text(encoding="utf-8")) == {"messages": expected}
    again = run("convert", source, out, "--input", "q", "--output", "a")
    assert isinstance(again.exception, FolderInUse)
    assert run("convert", source, out, "--input", "q", "--output", "a", "--keep-fields", "--force").exit_code == 0
    assert json.loads(out.read_text(encoding="utf-8"))["meta"]["id"] == "1"


def test_convert_of_a_broken_file_writes_nothing(tmp_path):
    (tmp_path / "a.jsonl").write_text("{", encoding="utf-8")
    assert isinstance(run("convert", tmp_path / "a.jsonl", tmp_path / "b.jsonl").exception, BadData)
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_split_twice_gives_the_same_and_never_by_accident(tmp_path, good):
    first = run("split", good, "--out", tmp_path / "one", "--group", "g", "--test", 0.2)
    assert first.exit_code == 0
    summary = json.loads((tmp_path / "one/split.json").read_text(encoding="utf-8"))
    assert sum(part["n"] for part in summary["parts"].values()) == 100
    assert isinstance(run("split", good, "--out", tmp_path / "one").exception, FolderInUse)
    second = run("split", good, "--out", tmp_path / "two", "--group", "g", "--test", 0.2, "--json")
    assert json.loads(second.output)["parts"] == summary["parts"]


def test_split_drops_what_leaks_from_a_given_held_out_file(tmp_path, good):
    held_out = tmp_path / "test.jsonl"
    held_out.write_bytes(rows(10))
    result = run("split", good, "--out", tmp_path / "parts", "--held-out", held_out, "--json")
    summary = json.loads(result.output)
    assert (summary["leakage"]["counts"]["exact"], summary["leakage"]["n_removed"], summary["parts"]["test"]["n"]) == (10, 10, 10)
    assert (tmp_path / "parts/test.jsonl").read_bytes() == held_out.read_bytes()


def test_add_failures_needs_to_know_the_held_out_set(tmp_path, good):
    failures = tmp_path / "failures.jsonl"
    question = to_jsonl([Example(messages=(user("Something else entirely?"), assistant("yes")), meta={"labelled": True})])
    failures.write_bytes(question)
    refused = run("add-failures", failures, good)
    assert isinstance(refused.exception, BadData)
    assert "--held-out" in refused.exception.hint
    held_out = tmp_path / "held.jsonl"
    held_out.write_bytes(question)
    moved = run("add-failures", failures, good, "--held-out", held_out, "--from-held-out")
    assert moved.exit_code == 0
    assert "no longer measures" in moved.output

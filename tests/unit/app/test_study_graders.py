"""Graders are made once, prepared before answers exist, and known by a fingerprint."""
import pytest

from feinschliff.app.study_graders import Graders
from feinschliff.core.chat import Example, assistant, user
from feinschliff.core.errors import BadStudy
from feinschliff.core.ports import Reply, Score
from feinschliff.core.study import Data, Goal, GraderSpec, Study


def study_with(*specs):
    return Study(
        name="s", task="t", why="w", arms=("base",), data=Data(files=("d.jsonl",)), graders=specs,
        goal=Goal(grader=specs[0].name, at_least=0.5),
    )  # fmt: skip


def test_label_learns_its_closed_set_from_the_golds(tmp_path):
    with Graders(study_with(GraderSpec(name="intent", type="label")), tmp_path) as graders:
        graders.prepare(["card ", "loan"])
        grade = graders["intent"](Example(messages=(user("q"), assistant("card"))), Reply("It is a loan.", 1, 1))
    assert grade == Score(0.0, why="says loan", label="loan")


def test_listed_labels_stay(tmp_path):
    spec = GraderSpec(name="intent", type="label", options={"labels": ["card", "loan", "other"]})
    with Graders(study_with(spec), tmp_path) as graders:
        graders.prepare(["card"])
        grade = graders["intent"](Example(messages=(user("q"), assistant("card"))), Reply("other", 1, 1))
    assert isinstance(grade, Score)
    assert grade.label == "other"


def test_broken_setup_fails_on_prepare_and_the_child_is_closed(tmp_path, monkeypatch):
    monkeypatch.setenv("FEINSCHLIFF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bad.sql").write_text("CREATE TABEL t (a);", encoding="utf-8")
    spec = GraderSpec(name="runs", type="execution", options={"engine": "sqlite", "setup": "bad.sql"})
    with Graders(study_with(spec), tmp_path) as graders, pytest.raises(BadStudy, match=r"bad\.sql"):
        graders.prepare([])


def test_unknown_type_fails_at_once(tmp_path):
    with pytest.raises(BadStudy, match="no type 'chrff'"):
        Graders(study_with(GraderSpec(name="a", type="chrff")), tmp_path)


def test_fingerprint_follows_the_file_behind_the_grader(tmp_path):
    file = tmp_path / "grade.py"
    file.write_text("def f(example, reply):\n    return 1.0\n", encoding="utf-8")
    spec = GraderSpec(name="mine", type="python", options={"function": "grade.py:f"})
    before = Graders(study_with(spec), tmp_path).fingerprint("mine")
    assert Graders(study_with(spec), tmp_path).fingerprint("mine") == before
    file.write_text("def f(example, reply):\n    return 0.0\n", encoding="utf-8")
    assert Graders(study_with(spec), tmp_path).fingerprint("mine") != before


def test_options_longer_than_any_file_name_are_texts(tmp_path):
    spec = GraderSpec(name="long", type="regex", options={"pattern": "a|" * 3000 + "b"})
    assert Graders(study_with(spec), tmp_path).fingerprint("long")

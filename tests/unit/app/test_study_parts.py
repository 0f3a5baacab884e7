"""The parts are made once, frozen, and taken from disk afterwards."""
import json

import pytest

from feinschliff.app.study_parts import RECORD, prepare
from feinschliff.core.errors import BadData
from feinschliff.core.study import Data, Goal, GraderSpec, Mapping, Split, Study


def study(**split):
    return Study(
        name="s", task="t", why="w", arms=("base",), data=Data(files=("rows.jsonl",), mapping=Mapping(input="q", output="a")),
        split=Split(**split), graders=(GraderSpec(name="g", type="exact"),), goal=Goal(grader="g", at_least=1),
    )  # fmt: skip


NOUNS = ("horse", "violin", "glacier", "ladder", "onion", "planet", "cellar", "ferry", "lantern", "quarry")


def write(path, n, **more):
    rows = [{"q": f"tell me about the {NOUNS[i % 10]} of valley {i}", "a": f"answer {i}", **more} for i in range(n)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


@pytest.fixture
def base(tmp_path):
    write(tmp_path / "rows.jsonl", 40, kind="odd")
    return tmp_path


def test_parts_are_disjoint_frozen_and_the_same_again(base, tiny_model):
    first = prepare(study(test=0.3, validation=0.1, part="kind"), base, base / "data", tiny_model)
    ids = [e.id for part in (first.train, first.validation, first.test) for e in part]
    assert len(set(ids)) == len(ids)
    assert first.record.held_out.parts == {"odd": len(first.test)}
    assert [first.part_of(first.test[0], field) for field in ("kind", None)] == ["odd", ""]
    write(base / "rows.jsonl", 3)  # what is frozen no longer depends on it
    assert prepare(study(test=0.3, validation=0.1, part="kind"), base, base / "data", tiny_model) == first


def test_tampered_held_out_set_is_refused(base, tiny_model):
    prepare(study(), base, base / "data", tiny_model)
    test = base / "data" / "test.jsonl"
    test.write_bytes(test.read_bytes().replace(b"answer", b"Answer", 1))
    with pytest.raises(BadData, match="not the held-out set that was frozen"):
        prepare(study(), base, base / "data", tiny_model)


def test_missing_part_field_freezes_nothing_and_names_the_fields(base, tiny_model):
    with pytest.raises(BadData, match="no such field") as caught:
        prepare(study(part="knid"), base, base / "data", tiny_model)
    assert "kind" in caught.value.hint
    assert not (base / "data" / RECORD).exists()
    assert prepare(study(part="kind"), base, base / "data", tiny_model).test


def test_killed_before_the_record_is_done_again(base, tiny_model):
    first = prepare(study(), base, base / "data", tiny_model)
    (base / "data" / RECORD).unlink()
    (base / "data" / "train.jsonl").write_text("torn", encoding="utf-8")
    assert prepare(study(), base, base / "data", tiny_model) == first


def test_errors_in_the_data_stop_it_with_the_line(base, tiny_model):
    (base / "rows.jsonl").write_text((base / "rows.jsonl").read_text(encoding="utf-8") + "{\n", encoding="utf-8")
    with pytest.raises(BadData, match=r"rows\.jsonl, line 41"):
        prepare(study(), base, base / "data", tiny_model)


def test_no_held_out_set_is_refused(base, tiny_model):
    with pytest.raises(BadData, match="held-out set is empty"):
        prepare(study(test=0.0), base, base / "data", tiny_model)

"""OUT belongs to one study, and to one process at a time."""
import pytest

from feinschliff.app.study_folder import MARK, Layout, claimed, inputs_of
from feinschliff.app.study_parts import RECORD
from feinschliff.core.errors import FolderInUse
from feinschliff.core.study import Data, Goal, GraderSpec, Prompt, Study, Training


def make(**changes):
    settings = {
        "name": "s", "task": "t", "why": "w", "arms": ("base", "prompt"), "data": Data(files=("rows.jsonl",)),
        "prompt": Prompt(file="prompt.md"), "graders": (GraderSpec(name="g", type="exact"),), "goal": Goal(grader="g", at_least=1),
    }  # fmt: skip
    return Study(**(settings | changes))


@pytest.fixture
def base(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}", encoding="utf-8")
    (tmp_path / "prompt.md").write_text("p", encoding="utf-8")
    return tmp_path


def freeze(layout):
    layout.data.mkdir()
    (layout.data / RECORD).write_text("{}", encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"}, {"arms": ("base",)}, {"goal": Goal(grader="g", at_least=0.2)}, {"task": "u"},
        {"graders": (GraderSpec(name="g", type="chrf"),)}, {"data": Data(files=("rows.jsonl",), labelled_by="us")},
    ],
    ids=lambda c: next(iter(c)),
)  # fmt: skip
def test_what_only_judges_may_change(base, change):
    assert inputs_of(make(**change), base, "m") == inputs_of(make(), base, "m")


def test_what_answers_depend_on_may_not_and_is_named(base):
    layout = Layout(base / "out")
    with claimed(layout, inputs_of(make(), base, "m")):
        freeze(layout)
    (base / "prompt.md").write_text("q", encoding="utf-8")
    changed = inputs_of(make(training=Training(seed=1)), base, "n")
    with pytest.raises(FolderInUse, match=r"changed: \[training\], prompt\.md, the base model\."), claimed(layout, changed):
        pass


def test_inputs_may_change_until_the_data_is_frozen(base):
    layout = Layout(base / "out")
    for model in ("m", "n"):
        with claimed(layout, inputs_of(make(), base, model)):
            assert f"{model}  the base model" in (layout.out / MARK).read_text(encoding="utf-8")


def test_one_process_at_a_time(base):
    layout, inputs = Layout(base / "out"), inputs_of(make(), base, "m")
    with claimed(layout, inputs), pytest.raises(FolderInUse, match="Another process"), claimed(layout, inputs):
        pass
    with claimed(layout, inputs):  # free again
        pass


def test_folder_stopped_before_its_mark_is_taken(base):
    layout = Layout(base / "out")
    layout.out.mkdir()
    (layout.out / "lock").touch()
    (layout.out / f".{MARK}.17.part").touch()
    with claimed(layout, inputs_of(make(), base, "m")):
        assert (layout.out / MARK).is_file()

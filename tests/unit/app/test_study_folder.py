"""OUT belongs to one study, and to one process at a time."""
import contextlib
from pathlib import Path

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
        {"graders": (GraderSpec(name="g", type="chrf"),)}, {"training": Training(seeds=3, learning_curve=(0.5,))}, {"data": Data(files=("rows.jsonl",), labelled_by="us")},
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


def trained(layout, text):
    """What a finished run leaves behind."""
    for file in (layout.run / "model" / "weights", layout.arm("tuned").chunk("test", 0), layout.arm("tuned+prompt").chunk("test", 0)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def test_other_training_keeps_untuned_answers_and_can_be_taken_back(base):
    layout = Layout(base / "out")
    first, second = (inputs_of(make(training=Training(seed=seed)), base, "m") for seed in (1, 2))
    with claimed(layout, first):
        freeze(layout)
        trained(layout, "first")
        untuned = layout.arm("base").chunk("test", 0)
        untuned.parent.mkdir()
        untuned.touch()
    with claimed(layout, second):
        assert untuned.is_file()
        assert not layout.run.exists()
        assert not layout.arm("tuned").chunk("test", 0).exists()
        trained(layout, "second")
    for inputs, text in ((first, "first"), (second, "second")):
        with claimed(layout, inputs):
            assert (layout.run / "model" / "weights").read_text(encoding="utf-8") == text
            assert layout.arm("tuned+prompt").chunk("test", 0).read_text(encoding="utf-8") == text


@pytest.mark.parametrize("n_moves", range(6))
def test_a_kill_while_changing_the_training_mixes_nothing(base, monkeypatch, n_moves):
    layout = Layout(base / "out")
    first, second = (inputs_of(make(training=Training(seed=seed)), base, "m") for seed in (1, 2))
    with claimed(layout, first):
        freeze(layout)
        trained(layout, "first")
    with claimed(layout, second):
        trained(layout, "second")
    rename, done = Path.rename, []

    def stopping(self, target):
        if len(done) == n_moves:
            raise KeyboardInterrupt
        done.append(target)
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stopping)
        with contextlib.suppress(KeyboardInterrupt), claimed(layout, first):
            pass
    with claimed(layout, first):
        texts = [p.read_text(encoding="utf-8") for p in (layout.run / "model" / "weights", layout.arm("tuned").chunk("test", 0))]
        assert texts == ["first", "first"]
    with claimed(layout, second):
        assert layout.arm("tuned+prompt").chunk("test", 0).read_text(encoding="utf-8") == "second"

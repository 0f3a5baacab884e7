"""A study from the command line: what it leaves behind, and what running it again does and does not do."""
import json
import re
import shutil
from pathlib import Path

import pytest
from small_study import feinschliff, mtimes, rows, without_clocks, write_rows

from feinschliff.core.jobs import TRAIN_EVENT, Finished, Step
from feinschliff.core.report import Report

ARMS = ("base", "prompt", "few_shot", "retrieval", "tuned", "tuned+prompt+retrieval")


@pytest.fixture
def again(finished, tmp_path):
    """A copy of the finished study, at the same place inside its folder; `again(*options)` runs it."""
    for name in ("rows.jsonl", "held_out.jsonl", "prompt.md", "study.toml"):
        shutil.copy(finished.folder / name, tmp_path / name)
    shutil.copytree(finished.folder / "schema", tmp_path / "schema")
    shutil.copytree(finished.out, tmp_path / "out")  # copy2: modification times stay

    def run(*options: str | Path):
        return feinschliff("study", "run", "study.toml", "--out", "out", "--yes", *options, cwd=tmp_path)

    return run


def answers_and_runs(folder):
    return mtimes(folder / "out", "arms/**/*") | mtimes(folder / "out", "runs/**/*") | mtimes(folder / "out", "data/*")


def change(folder, before, after):
    text = (folder / "study.toml").read_text(encoding="utf-8")
    assert before in text
    (folder / "study.toml").write_text(text.replace(before, after), encoding="utf-8")


def test_report_is_valid_and_has_every_arm(finished):
    report = Report.model_validate(finished.report)
    assert tuple(arm.name for arm in report.arms) == ARMS
    assert report.held_out.n == 30
    assert report.held_out.parts == {"odd": 10, "ordinary": 20}
    assert report.split.n_read == 48
    assert report.best_tuned in ARMS[4:]
    assert report.training is not None
    assert report.training.last_train_loss < report.training.first_train_loss
    assert report.goal == "chrf at least 0.5"


def test_terminal_shows_every_arm_the_verdict_and_where_the_page_is(finished):
    shown = finished.done.stdout
    assert all(f"│ {arm} " in shown for arm in ARMS)
    assert f"verdict: {finished.report['verdict']['decision'].replace('_', ' ')}" in shown
    assert "part odd: 10 questions" in shown
    assert f"report: {finished.out / 'report.html'}" in shown
    assert "Questions to [queries] of one word each" in shown  # brackets are no markup
    assert finished.done.stderr == ""


def test_page_loads_nothing_from_elsewhere(finished):
    page = (finished.out / "report.html").read_text(encoding="utf-8")
    loads = re.findall(r"""(?:\bsrc|\bhref|\bposter)\s*=\s*["']?([^"'\s>]+)|url\(([^)]+)\)|@import\s+([^;]+)""", page)
    assert [a for found in loads for a in found if a and not a.startswith(("#", "data:", "'data:", '"data:'))] == []
    assert all(arm in page for arm in ARMS)


def test_training_events_end_with_the_model_that_answered(finished):
    lines = (finished.out / "runs" / "tuned" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [TRAIN_EVENT.validate_json(line) for line in lines]
    assert isinstance(events[-1], Finished)
    assert [e.step for e in events if isinstance(e, Step)] == list(range(1, events[-1].step + 1))
    assert (finished.out / "runs" / "tuned" / events[-1].path / "adapter_model.safetensors").is_file()


def test_only_the_best_untuned_arm_is_asked_for_the_validation_part(finished):
    asked = [p.parent.name for p in finished.out.glob("arms/*/validation-*.json")]
    assert asked == [finished.report["best_untuned"]]


def test_failures_of_the_validation_part_become_training_data_and_held_out_ones_do_not(finished, tmp_path):
    failures = [json.loads(line) for line in (finished.out / "failures.jsonl").read_text(encoding="utf-8").splitlines()]
    parts = {part: [f for f in failures if f["part"] == part] for part in ("test", "validation")}
    assert {f["arm"] for f in parts["test"]} == set(ARMS[:4])
    assert {f["arm"] for f in parts["validation"]} == {finished.report["best_untuned"]}
    add = ("data", "add-failures", finished.out / "failures.jsonl", tmp_path / "more.jsonl")
    added = feinschliff(*add, cwd=tmp_path)
    assert added.returncode == 0, added.stderr
    learnt = [json.loads(line)["messages"][-1]["content"] for line in (tmp_path / "more.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted(learnt) == sorted(f["messages"][-1]["content"] for f in parts["validation"])
    write_rows(tmp_path / "held.jsonl", parts["test"])
    refused = feinschliff(
        "data", "add-failures", "held.jsonl", "other.jsonl", "--held-out", finished.out / "data" / "test.jsonl", cwd=tmp_path
    )
    assert refused.returncode == 1
    assert "held-out set" in refused.stderr
    assert not (tmp_path / "other.jsonl").exists()


def test_second_run_does_nothing_again_and_says_the_same(finished, again, tmp_path):
    before = answers_and_runs(tmp_path)
    done = again("--json")
    assert done.returncode == 0, done.stderr
    assert answers_and_runs(tmp_path) == before
    report = json.loads(done.stdout)  # nothing but the report on stdout
    assert Report.model_validate(report)
    assert without_clocks(report) == without_clocks(finished.report)
    assert "loading" not in done.stderr
    assert "study small" in done.stderr


def test_fewer_arms_are_judged_from_the_answers_that_are_there(again, tmp_path):
    before = answers_and_runs(tmp_path)
    done = again("--json", "--arms", "retrieval, tuned")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [arm["name"] for arm in report["arms"]] == ["retrieval", "tuned"]
    assert report["best_untuned"] == "retrieval"
    assert before.items() <= answers_and_runs(tmp_path).items()


def test_another_grader_and_goal_judge_the_same_answers(again, tmp_path):
    before = mtimes(tmp_path / "out", "arms/*/test-*.json") | mtimes(tmp_path / "out", "runs/**/*")
    (tmp_path / "grade.py").write_text("def short(example, reply):\n    return float(len(reply) < 4000)\n", encoding="utf-8")
    change(tmp_path, 'type = "normalised"', 'type = "python"\noptions = { function = "grade.py:short" }')
    change(tmp_path, "at_least = 0.5", "at_least = 0.01")
    done = again("--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert all(arm["metrics"]["same"]["value"] == 1.0 for arm in report["arms"])
    assert report["goal_at_least"] == 0.01
    assert before == mtimes(tmp_path / "out", "arms/*/test-*.json") | mtimes(tmp_path / "out", "runs/**/*")
    (tmp_path / "grade.py").write_text("def short(example, reply):\n    return 0.0\n", encoding="utf-8")
    report = json.loads(again("--json").stdout)  # the file behind the grader counts, not only its name
    assert all(arm["metrics"]["same"]["value"] == 0.0 for arm in report["arms"])


def test_changed_data_needs_another_folder(again, tmp_path):
    before = mtimes(tmp_path / "out")
    write_rows(tmp_path / "rows.jsonl", rows(0, 47))
    done = again()
    assert done.returncode == 2
    assert "holds a study with other inputs; changed: rows.jsonl." in done.stderr
    assert "--out" in done.stderr
    assert mtimes(tmp_path / "out").keys() == before.keys()


def test_changed_words_about_the_data_do_not(finished, again, tmp_path):
    change(tmp_path, 'labelled_by = "a rule"', 'labelled_by = "two people"')
    done = again("--json", "--arms", "base")
    assert done.returncode == 0, done.stderr


def test_another_held_out_file(again, tmp_path):
    write_rows(tmp_path / "other.jsonl", rows(60, 12, part="new"))
    done = again("--test", "other.jsonl", "--arms", "base")
    assert done.returncode == 2
    assert "changed: [split]" in done.stderr
    done = again("--test", "other.jsonl", "--arms", "base", "--out", "out2", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["held_out"]["parts"] == {"new": 12}


def test_cost_of_a_finished_study_is_what_it_measured(finished):
    done = feinschliff("cost", finished.file, "--out", finished.out, "--json", cwd=finished.folder)
    assert done.returncode == 0, done.stderr
    sheet = json.loads(done.stdout)
    assert sheet["basis"] == "measured"
    assert {a["name"]: a["input_tokens"] for a in sheet["arms"]} == {a["name"]: a["input_tokens"] for a in finished.report["arms"]}
    events = [TRAIN_EVENT.validate_json(e) for e in (finished.out / "runs/tuned/events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sheet["training_tokens"] == sum(e.logical_tokens for e in events if isinstance(e, Step))
    hosted = feinschliff(
        "cost", finished.file, "--out", finished.out, "--model", "gpt-4o-mini-2024-07-18", "--provider", "openai", "--json", cwd=finished.folder
    )
    assert json.loads(hosted.stdout)["training"] == pytest.approx(3 * sheet["training_tokens"] / 1e6)


def test_a_tuned_model_on_own_weights_does_not_retire(finished):
    done = feinschliff("catalog", "retirements", finished.folder, cwd=finished.folder)
    assert done.stdout == "1 tuned model; none ends with its base.\n"


def test_a_tuned_model_whose_base_is_hosted_does(finished, tmp_path):
    report = finished.report | {"base_model": "gpt-4.1-nano-2025-04-14"}
    (tmp_path / "report.json").write_text(json.dumps(report), encoding="utf-8")
    found = json.loads(feinschliff("catalog", "retirements", tmp_path, "--json", cwd=tmp_path).stdout)
    assert [(r["base"], r["study"], r["answers_until"]) for r in found] == [("gpt-4.1-nano-2025-04-14", "small", "2026-10-23")]

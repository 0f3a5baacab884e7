"""A study with several seeds and a learning curve; its trainer killed in the middle of them."""
import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from small_study import children_of, feinschliff, kill_family, make_study, mtimes, start, without_clocks

from feinschliff.app import study_report
from feinschliff.app.study_file import load_study
from feinschliff.app.study_folder import Layout
from feinschliff.app.study_parts import frozen_parts
from feinschliff.app.study_run import Backends, run
from feinschliff.core.engine import Sampling
from feinschliff.core.errors import ProgramFailed
from feinschliff.core.jobs import TRAIN_EVENT, Finished, Started, Step, TrainEvent, TrainSpec
from feinschliff.core.report import Report
from feinschliff.providers.engine import LocalResponder, Program
from feinschliff.providers.trainer import LocalTrainer

CHANGES = (
    ('arms = ["base", "prompt", "few_shot", "retrieval", "tuned", "tuned+prompt+retrieval"]', 'arms = ["base", "tuned", "tuned+few_shot"]'),
    ('contexts = ["plain", "prompt+retrieval"]', 'contexts = ["plain", "few_shot"]\nseeds = 2\nlearning_curve = [0.5]'),
    ("n_epochs = 2\nbatch_size = 8", "n_epochs = 4\nbatch_size = 2"),
)  # fmt: skip
SEED_1, HALF_0, HALF_1 = "tuned/more/seed-1", "tuned/more/share-0.5-seed-0", "tuned/more/share-0.5-seed-1"
RUNS = ("tuned", SEED_1, HALF_0, HALF_1)


def events(out: Path, job: str) -> list[TrainEvent]:
    path = out / "runs" / job / "events.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    return [TRAIN_EVENT.validate_json(line) for line in lines]


def steps(out: Path, job: str) -> int:
    return sum(isinstance(e, Step) for e in events(out, job))


def by_letters(texts: Sequence[str]) -> NDArray[np.float32]:
    """An embedding that needs no model: how often each letter occurs."""
    counts = np.array([[text.count(chr(97 + k)) + 0.1 for k in range(26)] for text in texts], dtype=np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


class Notes:
    """Satisfies Observer; `kill_at` is asked after every step of training, and kills the trainer where it says so."""

    def __init__(self, kill_at=lambda: False) -> None:
        self.said, self._kill_at = [], kill_at

    def stage(self, name: str, total: int) -> None:
        self.said.append(name)

    def note(self, text: str) -> None:
        self.said.append(text)

    def advance(self, done: int) -> None:
        if self._kill_at():
            (trainer,) = [c for c in children_of(os.getpid()) if b"feinschliff.train" in Path(f"/proc/{c}/cmdline").read_bytes()]
            os.kill(trainer, signal.SIGKILL)
            self._kill_at = lambda: False


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_encoder: Path, tiny_program: Program):
    """Its trainer was killed when all four trainings were under way, and it was run again to the end."""
    folder = tmp_path_factory.mktemp("seeds")
    file = make_study(folder, tiny_model, tiny_encoder, *CHANGES)
    spec, out = load_study(file), folder / "out"

    @contextmanager
    def open_responder(tuned, on_progress) -> Iterator[LocalResponder]:
        yield LocalResponder(tiny_program, Sampling(max_tokens=6, temperature=0, seed=0), 16, tuned, on_progress)

    @contextmanager
    def open_embedder():
        yield by_letters

    backends = Backends(tiny_model, "0" * 64, open_responder, open_embedder, LocalTrainer, "here", {})

    def go_on(observer, study=spec) -> Report:
        return asyncio.run(run(study, folder, out, backends, observer))

    with pytest.raises(ProgramFailed, match="code -9"):
        go_on(Notes(kill_at=lambda: steps(out, HALF_1) >= 8))
    interrupted = {job: events(out, job) for job in RUNS}
    notes = Notes()
    return SimpleNamespace(spec=spec, out=out, go_on=go_on, interrupted=interrupted, report=go_on(notes), said=notes.said, file=file)


def test_every_run_goes_on_to_the_bits_of_one_that_was_left_alone(study, tmp_path):
    from feinschliff.train.loop import train  # torch takes seconds to import

    shutil.copytree(study.out / "runs", tmp_path / "runs", ignore=shutil.ignore_patterns("state", "model", "events.jsonl", "checkpoints"))
    for job in RUNS:
        assert not any(isinstance(e, Finished) for e in study.interrupted[job])
        assert [e.first_step > 0 for e in events(study.out, job) if isinstance(e, Started)] in ([False, True], [False, False])
        alone = tmp_path / "runs" / job
        train(alone, TrainSpec.model_validate_json((alone / "spec.json").read_text(encoding="utf-8")))
        weights = [(run / job / "model" / "adapter_model.safetensors").read_bytes() for run in (study.out / "runs", tmp_path / "runs")]
        assert weights[0] == weights[1], job
    # One process trained all four: one log, in the first run's folder.
    assert [p.parent.name for p in study.out.glob("runs/**/log.txt")] == ["tuned"]


def test_smaller_shares_are_parts_of_the_data_and_show_no_example_beyond(study):
    runs = study.out / "runs"
    whole = (runs / "tuned" / "train-0.jsonl").read_text(encoding="utf-8").splitlines()
    for job in (HALF_0, HALF_1):
        part = (runs / job / "train-0.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(part) == -(-len(whole) // 2)
        assert set(part) < set(whole)
        known = {json.loads(line)["messages"][-1]["content"] for line in part}
        for line in (runs / job / "train-1.jsonl").read_text(encoding="utf-8").splitlines():
            shown = [m["content"] for m in json.loads(line)["messages"] if m["role"] == "assistant"]
            assert len(shown) == 3
            assert set(shown) <= known


def test_the_report_is_over_all_seeds_and_names_the_chosen_one(study):
    report = study.report
    seeds, tuned = report.seed_runs, next(a for a in report.arms if a.name == "tuned")
    assert [run.seed for run in seeds.runs] == [0, 1]
    assert [run.model for run in seeds.runs] == ["runs/tuned/model", f"runs/{SEED_1}/model"]
    assert seeds.chosen == min(seeds.runs, key=lambda run: run.valid_loss).seed
    assert seeds.chosen_by == "validation_loss"
    spread = next(s for s in seeds.spreads if (s.arm, s.grader, s.part) == ("tuned", "chrf", ""))
    assert tuned.metrics["chrf"].value == pytest.approx(sum(spread.values) / 2)
    assert tuned.metrics["chrf"].n_runs == 2
    assert {c.test for c in report.comparisons} == {"crossed_t"}
    chosen = seeds.runs[seeds.chosen]
    assert report.training.model == chosen.model
    assert report.training.valid_loss == chosen.valid_loss
    first, other = study.out / "arms", study.out / "runs" / SEED_1 / "arms"
    for arm in ("tuned", "tuned+few_shot"):
        assert (first / arm / "test-000.json").is_file()
        assert (other / arm / "test-000.json").is_file()
        assert (first / arm / "latency.json").is_file() == (seeds.chosen == 0)
        assert (other / arm / "latency.json").is_file() == (seeds.chosen == 1)


def test_the_curve_is_of_the_first_tuned_arm_and_ends_with_all_data(study):
    report = study.report
    curve, tuned = report.learning_curve, next(a for a in report.arms if a.name == "tuned")
    assert curve.arm == "tuned"
    assert [p.share for p in curve.points] == [0.5, 1.0]
    assert [p.n_examples for p in curve.points] == [-(-report.split.n_train // 2), report.split.n_train]
    assert curve.points[-1].metric == tuned.metrics["chrf"]
    assert curve.sentence in report.verdict.reasons
    assert [p.name for p in (study.out / "runs" / HALF_0 / "arms").iterdir()] == ["tuned"]


def test_answers_side_by_side_are_the_chosen_ones(study):
    layout, chosen = Layout(study.out), study.report.seed_runs.chosen
    given = study_report.read_answers(study.spec, study.file.parent, layout, frozen_parts(layout.data), study.report)
    folder = study.out / "arms" / "tuned" if chosen == 0 else study.out / "runs" / SEED_1 / "arms" / "tuned"
    replies = json.loads((folder / "test-000.json").read_text(encoding="utf-8"))["replies"]
    assert [a.reply for a in given["tuned"]] == [r["text"] for r in replies]


def test_progress_names_the_training(study):
    assert "4 trainings (fp32, 2,048 parameters)" in study.said
    assert any(re.match(r"0\.5 of the data, seed 1: trained [\d,]+ tokens", said) for said in study.said)
    assert "tuned+few_shot (seed 1): test set" in study.said


def test_again_it_does_nothing_and_without_seeds_it_reads_the_first_run_only(study):
    before = mtimes(study.out, "arms/**/*") | mtimes(study.out, "runs/**/*")
    again = study.go_on(Notes())
    assert without_clocks(again.model_dump()) == without_clocks(study.report.model_dump())
    assert mtimes(study.out, "arms/**/*") | mtimes(study.out, "runs/**/*") == before
    one_seed = study.spec.training.model_copy(update={"seeds": 1, "learning_curve": ()})
    single = study.go_on(Notes(), study.spec.model_copy(update={"training": one_seed}))
    assert (single.seed_runs, single.learning_curve) == (None, None)
    assert single.training.model == "runs/tuned/model"
    assert {m.n_runs for arm in single.arms for m in arm.metrics.values()} == {1}
    assert before.items() <= (mtimes(study.out, "arms/**/*") | mtimes(study.out, "runs/**/*")).items()


@pytest.mark.long
def test_from_the_command_line_killed_with_all_its_children(tmp_path, tiny_model, tiny_encoder):
    file = make_study(tmp_path, tiny_model, tiny_encoder, *CHANGES)
    command = ("study", "run", file, "--out", tmp_path / "out", "--yes")
    process = start(*command, cwd=tmp_path)
    while steps(tmp_path / "out", HALF_1) < 8:
        assert process.poll() is None, process.communicate()[1]
    kill_family(process.pid)
    process.communicate()
    done = feinschliff(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown, page = " ".join(done.stdout.split()), (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "2 seeds; a learning curve also on 0.5 of the data" in shown
    assert "2 seeds: chrf" in shown
    assert "was chosen for use, by its validation loss" in shown
    assert "learning curve of tuned: chrf" in shown
    assert 'id="seeds"' in page
    assert 'id="chart-curve"' in page
    killed = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    undisturbed = feinschliff("study", "run", file, "--out", tmp_path / "other", "--yes", "--json", cwd=tmp_path)
    assert without_clocks(json.loads(undisturbed.stdout)) == without_clocks(killed)

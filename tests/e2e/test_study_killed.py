"""kill -9 at any moment: the same command again ends with the report, and the weights, of an undisturbed run."""
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_study import children_of, environment, kill_family, make_study, mtimes, without_clocks

# The real command with chunks of 8 conversations, so that there is something to be killed between.
# Processes started in the background of a script ignore SIGINT, and their children inherit that.
SMALL_CHUNKS = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "import feinschliff.app.study_answers as a, feinschliff.app.study_run as r; a.CHUNK = r.CHUNK = 8;"
    "from feinschliff.cli.main import main; main()"
)
CHANGES = (
    ('arms = ["base", "prompt", "few_shot", "retrieval", "tuned", "tuned+prompt+retrieval"]', 'arms = ["base", "prompt", "tuned"]'),
    ('contexts = ["plain", "prompt+retrieval"]', 'contexts = ["plain"]'),
    ("n_epochs = 2\nbatch_size = 8", "n_epochs = 8\nbatch_size = 2"),
)
LAST_STEP = 168  # of 42 examples, 2 a step, 8 epochs


class Killed:
    """A study that is started, killed and started again."""

    def __init__(self, folder: Path, model: Path, encoder: Path) -> None:
        self.folder, self.out = folder, folder / "out"
        self.file = make_study(folder, model, encoder, *CHANGES)

    def start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", SMALL_CHUNKS, "study", "run", str(self.file), "--out", str(self.out), "--yes"]
        return subprocess.Popen(
            command, cwd=self.folder, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True,
        )  # fmt: skip

    def until(self, reached: Callable[[], bool]) -> "subprocess.Popen[str]":
        """Start, and return at the moment that the files say is right."""
        process = self.start()
        while not reached():
            assert process.poll() is None, f"it ended too early: {process.communicate()[1]}"
            time.sleep(0.003)
        return process

    def finish(self) -> SimpleNamespace:
        process = self.start()
        assert process.communicate()[1] == ""
        assert process.returncode == 0
        report = json.loads((self.out / "report.json").read_text(encoding="utf-8"))
        weights = (self.out / "runs/tuned/model/adapter_model.safetensors").read_bytes()
        failures = (self.out / "failures.jsonl").read_text(encoding="utf-8")
        return SimpleNamespace(report=without_clocks(report), weights=weights, failures=failures)

    def chunks(self) -> dict[str, int]:
        return mtimes(self.out, "arms/*/*-0*.json")

    def step(self) -> int:
        events = self.out / "runs" / "tuned" / "events.jsonl"
        lines = events.read_bytes().split(b"\n")[:-1] if events.is_file() else []
        return max((json.loads(line).get("step", 0) for line in lines), default=0)

    def graded(self, arm: str) -> bool:
        return any(self.out.glob(f"arms/{arm}/grades/*.json"))


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def kill_all(process: "subprocess.Popen[str]") -> None:
    kill_family(process.pid)
    process.communicate()


def trainer_of(process: "subprocess.Popen[str]") -> int:
    (pid,) = [c for c in children_of(process.pid) if b"feinschliff.train" in Path(f"/proc/{c}/cmdline").read_bytes()]
    return pid


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_model, tiny_encoder):
    return Killed(tmp_path_factory.mktemp("undisturbed"), tiny_model, tiny_encoder).finish()


@pytest.fixture
def study(tmp_path, tiny_model, tiny_encoder):
    return Killed(tmp_path, tiny_model, tiny_encoder)


def assert_the_same(study, undisturbed, answered):
    end = study.finish()
    assert end.report == undisturbed.report
    assert end.failures == undisturbed.failures
    assert end.weights == undisturbed.weights
    assert answered.items() <= study.chunks().items(), "a chunk was answered twice"


def test_killed_while_answering_training_and_grading(study, undisturbed):
    kill(study.until(lambda: len(study.chunks()) >= 2))
    answered = study.chunks()
    kill_all(study.until(lambda: study.step() >= 30))
    assert answered.items() <= study.chunks().items()
    answered = study.chunks()
    kill(study.until(lambda: study.step() >= 60))  # the orphaned trainer works on; the next start waits for it
    kill_all(study.until(lambda: study.graded("tuned") or len(list(study.out.glob("arms/tuned/test-*.json"))) >= 2))
    assert answered.items() <= study.chunks().items()
    assert_the_same(study, undisturbed, study.chunks())


def test_killed_trainer_is_told_and_goes_on(study, undisturbed):
    process = study.until(lambda: 30 <= study.step() < LAST_STEP)
    os.kill(trainer_of(process), signal.SIGKILL)
    errors = process.communicate()[1]
    assert process.returncode == 1
    assert "Training ended with code -9" in errors
    assert "memory" in errors
    assert "Run the same command again" in errors
    assert "Traceback" not in errors
    assert_the_same(study, undisturbed, study.chunks())


def test_interrupt_says_how_to_go_on(study):
    process = study.until(lambda: len(study.chunks()) >= 1)
    process.send_signal(signal.SIGINT)
    errors = process.communicate()[1]
    assert process.returncode == 130
    assert errors == "stopped; run the same command again to go on\n"


@pytest.mark.long
@pytest.mark.parametrize("seed", range(6))
def test_killed_at_random_moments(study, undisturbed, seed):
    chance = random.Random(seed)
    answered: dict[str, int] = {}
    for step in sorted(chance.sample(range(1, LAST_STEP - 20), 3)):
        process = study.until(lambda step=step: study.step() >= step)
        time.sleep(chance.uniform(0, 0.2))
        chance.choice([kill, kill_all])(process)
        assert answered.items() <= study.chunks().items()
        answered = study.chunks()
    for n in sorted(chance.sample(range(1, 4), 2)):
        if len(list(study.out.glob("arms/tuned/test-*.json"))) < n:
            kill_all(study.until(lambda n=n: len(list(study.out.glob("arms/tuned/test-*.json"))) >= n))
    assert_the_same(study, undisturbed, study.chunks())

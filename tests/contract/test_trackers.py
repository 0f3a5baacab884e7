"""What every experiment tracker has to do, each through its real library and read back with its own reader."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from feinschliff.core.finetune import (
    MlflowIntegration,
    MlflowRun,
    TensorboardIntegration,
    WandbIntegration,
    WandbRun,
)
from feinschliff.core.ports import Outcome, TrackedRun, TrackedStep
from feinschliff.core.service import JobStatus
from feinschliff.providers.trackers.opening import Trackers

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``:sqlalchemy.exc.SADeprecationWarning")  # MLflow's
RUN = TrackedRun("ftjob-abc", "proj_default", {"model": "tiny", "seed": 7, "n_epochs": 2, "learning_rate_multiplier": 1.0})
DONE = Outcome(JobStatus.SUCCEEDED, "ft:tiny:local::abc")
INTEGRATIONS = {
    "wandb": WandbIntegration(type="wandb", wandb=WandbRun(project="p", tags=("a", "b"))),
    "mlflow": MlflowIntegration(type="mlflow", mlflow=MlflowRun(experiment="trials", tags={"team": "a"})),
    "tensorboard": TensorboardIntegration(type="tensorboard"),
}


def steps(first, last):
    return [TrackedStep(n, 1_700_000_000 + n, {"train_loss": 1 / n, "learning_rate": 0.001 * n}) for n in range(first, last + 1)]


def read_wandb(data):
    """Steps and summary of all offline files, in the order of their making."""
    from wandb.proto.wandb_internal_pb2 import Record

    from feinschliff.providers.trackers.wandb_run import _records

    found, summary = [], {}
    for file in sorted((data / "runs" / RUN.job / "wandb").glob("offline-run-*/*.wandb"), key=lambda f: f.stat().st_mtime_ns):
        for record in map(Record.FromString, _records(file.read_bytes())):
            if record.WhichOneof("record_type") == "history":
                values = {i.key or i.nested_key[0]: i.value_json for i in record.history.item}
                found.append((record.history.step.num, float(values["train_loss"])))
            summary |= {u.key or u.nested_key[0]: u.value_json.strip('"') for u in record.summary.update}
    return found, summary.get("status")


def read_mlflow(data):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{data / 'mlflow' / 'mlflow.sqlite'}")
    (run,) = client.search_runs([client.get_experiment_by_name("trials").experiment_id])
    assert run.data.params["n_epochs"] == "2"
    assert run.data.tags["team"] == "a"
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "train_loss")], run.data.tags.get("status")


def read_tensorboard(data):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(data / "tensorboard" / RUN.project / RUN.job), size_guidance={"tensors": 0}).Reload()
    status = events.Tensors("status") if "status" in events.Tags()["tensors"] else []
    assert len(status) <= 1
    found = [(e.step, float(e.tensor_proto.float_val[0])) for e in events.Tensors("train_loss")]
    return found, status[0].tensor_proto.string_val[0].decode().split()[0] if status else None


READ = {"wandb": read_wandb, "mlflow": read_mlflow, "tensorboard": read_tensorboard}


@pytest.fixture(params=list(INTEGRATIONS))
def kind(request, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return request.param


def test_a_run_goes_on_where_it_was_left_and_ends_once(kind, tmp_path):
    for first, last in ((1, 3), (4, 6)):
        tracker = Trackers(tmp_path).open(INTEGRATIONS[kind], RUN)
        assert tracker.begin() == first - 1
        tracker.log(steps(first, last))
        tracker.close()
    for _ in range(2):
        again = Trackers(tmp_path).open(INTEGRATIONS[kind], RUN)
        assert again.begin() == 6
        again.end(DONE)
    found, status = READ[kind](tmp_path)
    assert [step for step, _ in found] == [1, 2, 3, 4, 5, 6]
    assert [loss for _, loss in found] == pytest.approx([1 / n for n in range(1, 7)])
    assert status == "succeeded"


KILLED = """
import os, sys, signal
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_trackers import INTEGRATIONS, RUN, Trackers, steps
tracker = Trackers(Path(sys.argv[2])).open(INTEGRATIONS[sys.argv[3]], RUN)
tracker.log(steps(tracker.begin() + 1, 40))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_no_step_and_repeats_none(kind, tmp_path):
    """What the library still held in memory is not among the steps that `begin` says are there."""
    folder = str(Path(__file__).parent)
    alone = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"}  # else it would speak to this process's program
    child = subprocess.run([sys.executable, "-c", KILLED, folder, str(tmp_path), kind], env=alone, check=False)
    assert child.returncode == -9
    tracker = Trackers(tmp_path).open(INTEGRATIONS[kind], RUN)
    held = tracker.begin()
    assert 0 <= held <= 40
    tracker.log(steps(held + 1, 50))
    tracker.end(DONE)
    found, status = READ[kind](tmp_path)
    assert [step for step, _ in found] == list(range(1, 51))
    assert status == "succeeded"

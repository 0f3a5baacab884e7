"""MLflow: runs in a tracking server or a database, found again by the job's tag."""
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from feinschliff.core.finetune import MlflowRun
from feinschliff.core.ports import Outcome, TrackedRun, TrackedStep
from feinschliff.core.service import JobStatus

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

JOB = "feinschliff.job"
WORDS = {JobStatus.SUCCEEDED: "FINISHED", JobStatus.FAILED: "FAILED", JobStatus.CANCELLED: "KILLED"}
BATCH = 100  # steps in a request; MLflow takes 1,000 metrics at most
DEFAULTS = {  # what the operator has set goes before
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_DISABLE_TELEMETRY": "true",
}  # fmt: skip


def default_uri() -> str | None:
    """The server's tracking server."""
    return os.environ.get("MLFLOW_TRACKING_URI") or None


class MlflowTracker:
    """Without any tracking server, `folder`/mlflow.sqlite."""

    def __init__(self, run: TrackedRun, chosen: MlflowRun, folder: Path) -> None:
        self._run, self._chosen, self._folder = run, chosen, folder
        self._id = ""

    def begin(self) -> int:
        client = self._client()
        name = self._chosen.experiment
        experiment = client.get_experiment_by_name(name)
        number = client.create_experiment(name) if experiment is None else experiment.experiment_id
        found = client.search_runs([number], f"tags.`{JOB}` = '{self._run.job}'", max_results=1)
        if not found:
            tags = {**self._chosen.tags, JOB: self._run.job}
            found = [client.create_run(number, run_name=self._chosen.run_name or self._run.job, tags=tags)]
        self._id = found[0].info.run_id
        for key, value in self._run.config.items():
            client.log_param(self._id, key, value)
        return max((m.step for m in client.get_metric_history(self._id, "train_loss")), default=0)

    def log(self, steps: Sequence[TrackedStep]) -> None:
        from mlflow.entities import Metric

        client = self._client()
        for first in range(0, len(steps), BATCH):
            # All of a batch is written, or nothing.
            client.log_batch(
                self._id,
                [Metric(name, value, s.at * 1000, s.step) for s in steps[first : first + BATCH] for name, value in s.metrics.items()],
            )

    def end(self, outcome: Outcome) -> None:
        client = self._client()
        client.set_tag(self._id, "status", str(outcome.status))
        if outcome.model is not None:
            client.set_tag(self._id, "fine_tuned_model", outcome.model)
        client.set_terminated(self._id, WORDS[outcome.status])

    def close(self) -> None:
        pass  # nothing is held open

    def _client(self) -> "MlflowClient":
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        uri = self._chosen.tracking_uri or default_uri()
        if uri is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{self._folder / 'mlflow.sqlite'}"
        return MlflowClient(tracking_uri=uri)

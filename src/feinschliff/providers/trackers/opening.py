"""From a job's integration to its tracker; and what each type needs."""
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import assert_never

from feinschliff.core.finetune import Integration, MlflowIntegration, TensorboardIntegration, WandbIntegration
from feinschliff.core.ports import TrackedRun, Tracker
from feinschliff.providers.trackers.mlflow_run import MlflowTracker
from feinschliff.providers.trackers.tensorboard_run import TensorboardTracker
from feinschliff.providers.trackers.wandb_run import WandbTracker


@dataclass(frozen=True, slots=True)
class Trackers:
    """The trackers of one service, which keep what they keep on the disk below `data`, its data folder."""

    data: Path

    def open(self, integration: Integration, run: TrackedRun) -> Tracker:
        """Nothing is loaded or reached before its `begin`."""
        match integration:
            case WandbIntegration(wandb=chosen):
                return WandbTracker(run, chosen, self.data / "runs" / run.job)
            case MlflowIntegration(mlflow=chosen):
                return MlflowTracker(run, chosen, self.data / "mlflow")
            case TensorboardIntegration(tensorboard=chosen):
                return TensorboardTracker(run, self.data / "tensorboard" / run.project / chosen.log_dir / run.job)
            case _:
                assert_never(integration)


def installed(kind: str) -> bool:
    """Whether the library is; its name is the integration's type."""
    return find_spec(kind) is not None


REMEDIES = {
    "wandb": "Set WANDB_API_KEY in the server's environment, or WANDB_MODE=offline, and see that the server can reach Weights & Biases.",
    "mlflow": "See that the MLflow tracking server answers, and that its credentials are in the server's environment.",
    "tensorboard": "See that the data folder can be written.",
}

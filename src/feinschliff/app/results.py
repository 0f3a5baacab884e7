"""A job's result files: its steps' metrics as a table, as the hosted services write it, one dialect each."""
import csv
import io
from collections.abc import Mapping, Sequence

from feinschliff.app import files
from feinschliff.app.service import Service
from feinschliff.core.service import Caller
from feinschliff.store import jobs as rows
from feinschliff.store.database import Session

# Column → the metric of a step's event. Validation here is always over the whole validation file.
OPENAI = {
    "step": "step", "train_loss": "train_loss", "train_accuracy": "train_mean_token_accuracy", "valid_loss": "full_valid_loss",
    "valid_mean_token_accuracy": "full_valid_mean_token_accuracy",
}  # fmt: skip
AZURE = {
    "step": "step", "train_loss": "train_loss", "train_mean_token_accuracy": "train_mean_token_accuracy",
    "valid_loss": "full_valid_loss", "validation_mean_token_accuracy": "full_valid_mean_token_accuracy",
    "full_valid_loss": "full_valid_loss", "full_valid_mean_token_accuracy": "full_valid_mean_token_accuracy",
}  # fmt: skip
DIALECTS = {"step_metrics.csv": OPENAI, "results.csv": AZURE}


def keep(service: Service, db: Session, owner: Caller, job_id: str) -> list[str]:
    """Store OpenAI's file and Azure's; their ids, in this order. Within the blobs' lock and the caller's transaction."""
    db.flush()
    steps = [event.data for event in rows.metrics_of(db, job_id)]
    return [_keep(service, db, owner, name, _table(columns, steps)) for name, columns in DIALECTS.items()]


def _table(columns: Mapping[str, str], steps: Sequence[Mapping[str, object]]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows([step.get(metric, "") for metric in columns.values()] for step in steps)
    return text.getvalue()


def _keep(service: Service, db: Session, owner: Caller, name: str, text: str) -> str:
    with service.blobs.incoming() as incoming:
        incoming.write(text.encode())
        incoming.finish()
        return files.keep(service, db, owner, incoming, files.NewFile(name, "fine-tune-results")).id

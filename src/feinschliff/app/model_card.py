"""What a tuned model's folder says of itself: README.md, from what it was made, by what and how."""
from pathlib import Path

from feinschliff import __version__
from feinschliff.app.lineage import ancestors
from feinschliff.app.service import Service
from feinschliff.core.jobs import Finished, Lora, TrainSpec
from feinschliff.core.service import ProjectId
from feinschliff.data.files import write_text
from feinschliff.store import files
from feinschliff.store.database import Session
from feinschliff.store.tables import JobRow


def write_card(service: Service, db: Session, row: JobRow, finished: Finished, run: Path) -> None:
    """Beside the weights of an ended run; the front matter is that of model hubs. Writing it again gives the same file."""
    spec = TrainSpec.model_validate_json((run / "spec.json").read_text(encoding="utf-8"))
    h = row.hyperparameters
    parents = [f"`{name}`" + ("" if job is None else f" (trained on {_data(service, db, job, job.training_file)})") for name, job in ancestors(db, row)]
    lines = {
        "Base model": f"`{row.model}`",
        "Started from": ", which started from ".join(parents) or "the base model",
        "Training file": _data(service, db, row, row.training_file),
        "Validation file": "none" if row.validation_file is None else _data(service, db, row, row.validation_file),
        "Data stays in": "; ".join(f"{', '.join(stays_in)} (`{file}`)" for file, stays_in in (row.stays_in or {}).items()) or "not said",
        "Method": _method(spec),
        "Hyperparameters": f"n_epochs {h['n_epochs']}, batch_size {h['batch_size']}, learning_rate_multiplier {h['learning_rate_multiplier']}",
        "Seed": str(row.seed),
        "Trained": f"{finished.step} steps, {finished.trained_tokens:,} tokens",
        "Made by": f"job `{row.id}`, Feinschliff {__version__}",
    }
    table = "".join(f"| {name} | {text} |\n" for name, text in lines.items())
    front = f"---\nbase_model: {row.model}\nlibrary_name: peft\ntags: [feinschliff]\n---\n"
    write_text(run / finished.path / "README.md", f"{front}# {row.fine_tuned_model}\n\n| | |\n|---|---|\n{table}")


def _data(service: Service, db: Session, row: JobRow, file_id: str) -> str:
    file = files.find_file(db, ProjectId(row.project_id), file_id, service.clock())
    return f"`{file_id}`, deleted since" if file is None else f"`{file_id}`, {file.filename}, SHA-256 `{file.sha256}`"


def _method(spec: TrainSpec) -> str:
    match spec.method:
        case Lora() as lora:
            kind = "DoRA" if lora.dora else "QLoRA" if lora.kind == "qlora" else "LoRA"
            return f"{kind}, rank {lora.rank}, alpha {lora.alpha:g}"
        case _:
            return "full fine-tuning"

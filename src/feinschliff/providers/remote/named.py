"""Tuned models that their provider keeps: what stands in a run's folder in place of weights."""
from pathlib import Path

from feinschliff.core.chat import Wire

WHERE = "remote.json"


class RemoteModel(Wire):
    """`model/remote.json`: the model's name at its provider, and the job there."""

    region: str
    model: str
    job: str


def read_remote(model: Path) -> RemoteModel | None:
    """What a run's model folder names, where it names a remote one."""
    file = model / WHERE
    return RemoteModel.model_validate_json(file.read_text(encoding="utf-8")) if file.is_file() else None

"""Which tuned models there are among studies' folders."""
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from feinschliff.app.study_cost import training_tokens
from feinschliff.catalog.retirements import TunedModel
from feinschliff.core.report import Report

REPORT = "report.json"


def tuned_models(folders: Sequence[Path]) -> tuple[TunedModel, ...]:
    """Of every study that trained one, in `folders` themselves and directly under them. What is not a report is passed over."""
    found = [model for folder in folders for model in _in(folder)]
    return tuple({model.name: model for model in found}.values())


def _in(folder: Path) -> Iterator[TunedModel]:
    for file in sorted([*folder.glob(REPORT), *folder.glob(f"*/{REPORT}")]):
        try:
            report = Report.model_validate_json(file.read_text(encoding="utf-8"))
        except (ValidationError, OSError):
            continue
        if report.training is not None:
            tokens = training_tokens(report, file.parent)
            yield TunedModel(name=str(file.parent), base=report.base_model, study=report.study, trained_tokens=tokens)

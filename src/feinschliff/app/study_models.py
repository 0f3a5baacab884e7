"""Which tuned models there are among studies' folders."""
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from feinschliff.app.study_cost import training_tokens
from feinschliff.catalog.models import Provider
from feinschliff.catalog.regions import Azure, OpenAi, Region, Regions
from feinschliff.catalog.retirements import TunedModel
from feinschliff.core.report import Report

REPORT = "report.json"


def tuned_models(folders: Sequence[Path], regions: Regions) -> tuple[TunedModel, ...]:
    """Of every study that trained some, here or at a provider, in `folders` themselves and directly under them. What is not a report
    is passed over; of models in regions that are no longer configured it is not known whose they are.
    """
    found = [model for folder in folders for model in _in(folder, regions)]
    return tuple({model.name: model for model in found}.values())


def _in(folder: Path, regions: Regions) -> Iterator[TunedModel]:
    for file in sorted([*folder.glob(REPORT), *folder.glob(f"*/{REPORT}")]):
        try:
            report = Report.model_validate_json(file.read_text(encoding="utf-8"))
        except (ValidationError, OSError):
            continue
        if report.training is not None:
            tokens = training_tokens(report, file.parent)
            yield TunedModel(name=str(file.parent), base=report.base_model, study=report.study, trained_tokens=tokens)
        for hosted in report.hosted:
            if hosted.tuned_model:
                yield TunedModel(
                    name=hosted.tuned_model, base=hosted.model, provider=_provider(regions.regions.get(hosted.region)), study=report.study,
                    trained_tokens=hosted.trained_tokens,
                )  # fmt: skip


def _provider(region: Region | None) -> Provider | None:
    match region:
        case Azure():
            return "azure"
        case OpenAi():
            return "openai"
        case _:
            return None

"""Models of a study that answer and are tuned elsewhere: what a study asks of a provider, and what is reported of it."""
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from feinschliff.app.study_folder import Layout
from feinschliff.app.study_trainings import Trained
from feinschliff.core.hosted import Spending
from feinschliff.core.jobs import Finished, TrainEvent
from feinschliff.core.ports import Responder, Trainer
from feinschliff.core.report import HostedReport
from feinschliff.core.study import Prices, Study


class Host(Protocol):
    """One `[hosted.NAME]` of a study."""

    @property
    def region(self) -> str: ...
    @property
    def model(self) -> str: ...

    def open_trainer(self, root: Path) -> AbstractContextManager[Trainer]:
        """For runs under `root`."""
        ...

    def open_responder(self, run: Path | None, on_progress: Callable[[int], None]) -> AbstractContextManager[Responder]:
        """The model, or the one that a finished `run` tuned: deployed for as long as the context is open, where that is needed."""
        ...

    def release(self) -> None:
        """Take back what a kill left deployed, if anything."""
        ...

    def prices(self, *, tuned: bool) -> Prices | None:
        """Per token and hour of hosting; None where they are not known."""
        ...

    def tuned_model(self, run: Path) -> str:
        """Its provider's name of what a run tuned; empty where it did not finish."""
        ...

    def spending(self, run: Path | None) -> Spending: ...


def hosted_reports(
    study: Study, layout: Layout, trained: Trained, hosts: Mapping[str, Host]
) -> tuple[HostedReport, ...]:
    """One for each hosted model that an arm asks."""
    runs = {training.host: training for training in trained.elsewhere}
    asked = dict.fromkeys(host for arm in study.arms if (host := study.host_of(arm)))
    return tuple(_report(name, hosts[name], layout, runs[name].job_id if name in runs else None, trained) for name in asked)


def _report(name: str, host: Host, layout: Layout, job_id: str | None, trained: Trained) -> HostedReport:
    events: list[TrainEvent] = [e for job, told in trained.events.items() if job == job_id for e in told]
    finished = next((e for e in reversed(events) if isinstance(e, Finished)), None)
    run = layout.runs / job_id if job_id else None
    spent = host.spending(run)
    return HostedReport(
        name=name, region=host.region, model=host.model, run=f"runs/{job_id}" if job_id else "",
        tuned_model=host.tuned_model(run) if run else "",
        trained_tokens=finished.trained_tokens if finished else 0, steps=finished.step if finished else 0,
        currency=spent.currency, requests=spent.answers, input_tokens=spent.input_tokens, output_tokens=spent.output_tokens,
        answers_money=spent.answers_money, training_money=spent.training_money,
    )  # fmt: skip

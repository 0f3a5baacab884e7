"""`feinschliff cost`: what a study's tuned model costs, before it is trained and after."""
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from feinschliff.app.study_cost import CostSheet, Rates, hosted_rates, measured, own_rates
from feinschliff.app.study_estimate import estimate
from feinschliff.app.study_file import load_study
from feinschliff.app.study_folder import Layout
from feinschliff.catalog.fit import Fit, Work, duration, fit
from feinschliff.catalog.machine import this_machine
from feinschliff.catalog.models import CatalogModel
from feinschliff.catalog.prices import money
from feinschliff.cli import job_cost
from feinschliff.cli.service import DATA_DIR, DatabaseUrl, DataDir
from feinschliff.compose import model_folder, own_catalog, own_market
from feinschliff.core.errors import ModelUnavailable
from feinschliff.core.report import Report
from feinschliff.core.study import Study
from feinschliff.data.render import Renderer


def cost(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY.toml|JOB", help="The study file, or a job of the service: ftjob-…", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", help="The study's folder. Default: out/NAME.", show_default=False)] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="At the prices of this model of the catalogue, instead of the study's own.", show_default=False)
    ] = None,
    provider: Annotated[
        Literal["azure", "openai"] | None,
        typer.Option("--provider", help="Whose model that is, where several have it: azure or openai.", show_default=False),
    ] = None,
    before: Annotated[bool, typer.Option("--before", help="Estimate even where the study has been run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    data_dir: DataDir = DATA_DIR,
    database: DatabaseUrl = None,
) -> None:
    """Say what training, hosting and answering cost, and from how many requests on the tuned model has paid off.

    Before the study is run this is an estimate from its data; afterwards it is what the study measured. Of a job of the service
    (with --data-dir, where it keeps its data): what it has cost, what it is expected to, and what its models have answered.
    """
    if study_file.name.startswith("ftjob-"):
        job_cost.show(study_file.name, data_dir, database, as_json=as_json)
        return
    study = load_study(study_file)
    layout = Layout((out or Path("out") / study.name).resolve())
    hosted = own_catalog().find(model, provider) if model else None
    if hosted is not None and hosted.provider != "local":
        rates = hosted_rates(own_market().prices.needed(hosted))
    else:
        rates = own_rates(model or study.model.base, study.prices, own_market().prices)
    report_file = layout.out / "report.json"
    if report_file.is_file() and not before:
        report = Report.model_validate_json(report_file.read_text(encoding="utf-8"))
        sheet = measured(study, report, layout.out, rates)
    else:
        sheet = _estimate(study, study_file.resolve().parent, rates, hosted)
    if as_json:
        sys.stdout.write(sheet.model_dump_json(indent=2) + "\n")
    else:
        show(sheet)


def _estimate(study: Study, base: Path, rates: Rates, hosted: CatalogModel | None) -> CostSheet:
    trained = hosted or _known(study.model.base)

    def forecast(work: Work) -> Fit:
        assert trained is not None
        return fit(trained, study.training.method, study.training.precision, work, this_machine(), own_catalog())

    here = trained is not None and trained.provider == "local"
    return estimate(study, base, Renderer.of(model_folder(study.model.base)), rates, forecast if here else None)


def _known(name: str) -> CatalogModel | None:
    """A folder may be named instead of a catalogue model; its sizes are then not known here."""
    try:
        return own_catalog().find(name)
    except ModelUnavailable:
        return None


def show(sheet: CostSheet) -> None:
    """The arms' prices, what tuning adds, and the way to the break-even."""
    console = Console()
    console.print(Text(f"{sheet.study} on {sheet.model}, {sheet.basis}, in {sheet.currency}"), soft_wrap=True)
    table = Table("arm", header_style="bold")
    for name in ("tokens in", "tokens out", "1,000 requests", "a month"):
        table.add_column(name, justify="right")
    for arm in sheet.arms:
        style = "bold" if arm.name in (sheet.tuned, sheet.untuned) else ""
        numbers = (f"{arm.input_tokens:,.0f}", f"{arm.output_tokens:,.0f}", money(1000 * arm.per_request), money(arm.month))
        table.add_row(Text(arm.name, style=style), *numbers)
    console.print(table)
    for line in _lines(sheet):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if sheet.curve:
        way = Table("requests", f"through {sheet.tuned}", f"through {sheet.untuned}", header_style="bold")
        for point in sheet.curve:
            way.add_row(f"{point.requests:,}", money(point.tuned), money(point.untuned), style="bold" if point.tuned <= point.untuned else "")
        console.print(way)
    for note in sheet.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True, style="dim")


def _lines(sheet: CostSheet) -> list[str]:
    if sheet.tuned is None:
        return ["No arm is tuned: nothing to train or to host."]
    took = f", {duration(sheet.training_seconds)}" if sheet.training_seconds is not None else ""
    price = "not known: it is billed by time" if sheet.training is None else money(sheet.training)
    lines = [
        f"training: {price} ({sheet.training_tokens:,} tokens over all epochs{took})",
        f"hosting: {money(sheet.hosting_month)} a month",
    ]
    if sheet.fit is not None and sheet.fit.verdict != "fits":
        lines.append(f"memory: {sheet.fit.verdict.replace('_', ' ')}: {sheet.fit.why}")
    if sheet.untuned is not None:
        traffic = f" at {sheet.requests_per_month:,} requests a month" if sheet.requests_per_month else ""
        even = sheet.break_even_requests
        lines.append(
            f"{sheet.tuned} has paid off against {sheet.untuned} after {even:,} requests{traffic}"
            if even is not None
            else f"{sheet.tuned} never pays off against {sheet.untuned}{traffic}"
        )
    return lines

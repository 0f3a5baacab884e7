"""`feinschliff cost`: what a study's tuned model costs, before it is trained and after."""
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from feinschliff.app.study_cost import ArmCost, CostSheet, TrainingCost, measured
from feinschliff.app.study_estimate import estimate
from feinschliff.app.study_file import load_study
from feinschliff.app.study_folder import Layout
from feinschliff.app.study_rates import Rates, hosted_rates, own_rates, rates_of_hosts
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
        str | None, typer.Option("--model", help="This machine's arms at the prices of this model of the catalogue, instead of the study's own.", show_default=False)
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
    market = own_market()
    hosted, hosts = market.models.find(model, provider) if model else None, rates_of_hosts(study, market)
    if hosted is not None and hosted.provider != "local":
        rates = hosted_rates(market.prices.needed(hosted))
    else:
        rates = own_rates(model or study.model.base, study.prices, market.prices)
    report_file = layout.out / "report.json"
    if report_file.is_file() and not before:
        report = Report.model_validate_json(report_file.read_text(encoding="utf-8"))
        sheet = measured(study, report, layout.out, rates, hosts)
    else:
        sheet = _estimate(study, study_file.resolve().parent, rates, hosts, hosted)
    if as_json:
        sys.stdout.write(sheet.model_dump_json(indent=2) + "\n")
    else:
        show(sheet)


def _estimate(study: Study, base: Path, rates: Rates, hosts: Mapping[str, Rates], hosted: CatalogModel | None) -> CostSheet:
    trained = hosted or _known(study.model.base)

    def forecast(work: Work) -> Fit:
        assert trained is not None
        return fit(trained, study.training.method, study.training.precision, work, this_machine(), own_catalog())

    here = trained is not None and trained.provider == "local"
    return estimate(study, base, Renderer.of(model_folder(study.model.base)), rates, hosts, forecast if here else None)


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
    for name in ("tokens in", "tokens out", "1,000 requests", "a month", "pays off after"):
        table.add_column(name, justify="right")
    for arm in sheet.arms:
        style = "bold" if arm.name in (sheet.tuned, sheet.untuned) else ""
        table.add_row(Text(arm.name, style=style), *_numbers(arm, sheet.currency))
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


def _numbers(arm: ArmCost, currency: str) -> tuple[str, ...]:
    """Amounts in another currency than the sheet's say so."""
    unit = f" {arm.currency}" if arm.currency != currency else ""
    amounts = (None if arm.per_request is None else 1000 * arm.per_request, arm.month)
    even = "" if arm.break_even_requests is None else f"{arm.break_even_requests:,}"
    return (f"{arm.input_tokens:,.0f}", f"{arm.output_tokens:,.0f}", *("–" if a is None else money(a) + unit for a in amounts), even)


def _training(cost: TrainingCost) -> list[str]:
    there = f" in {cost.place}" if cost.place else ""
    took = f", {duration(cost.seconds)}" if cost.seconds is not None else ""
    price = f"{money(cost.training)} {cost.currency}" if cost.training is not None else "not known" if cost.place else "not known: it is billed by time"
    hosting = "not known" if cost.hosting_month is None else f"{money(cost.hosting_month)} {cost.currency} a month"
    return [f"training{there}: {price} ({cost.tokens:,} tokens over all epochs{took})", f"hosting{there}: {hosting}"]


def _lines(sheet: CostSheet) -> list[str]:
    if not sheet.trainings:
        return ["No arm is tuned: nothing to train or to host."]
    lines = [line for cost in sheet.trainings for line in _training(cost)]
    if sheet.fit is not None and sheet.fit.verdict != "fits":
        lines.append(f"memory: {sheet.fit.verdict.replace('_', ' ')}: {sheet.fit.why}")
    if sheet.tuned is not None and sheet.untuned is not None:
        traffic = f" at {sheet.requests_per_month:,} requests a month" if sheet.requests_per_month else ""
        even = sheet.break_even_requests
        lines.append(
            f"{sheet.tuned} has paid off against {sheet.untuned} after {even:,} requests{traffic}"
            if even is not None
            else f"{sheet.tuned} never pays off against {sheet.untuned}{traffic}"
        )
    return lines

"""`feinschliff study …`: run a study, or write the beginnings of a study file."""
import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.prompt import Confirm

from feinschliff.app import study_report
from feinschliff.app.study_file import load_study
from feinschliff.app.study_folder import Layout
from feinschliff.app.study_init import study_init
from feinschliff.app.study_parts import frozen_parts
from feinschliff.app.study_problems import problems_of
from feinschliff.app.study_run import run as run_study
from feinschliff.catalog.models import HERE
from feinschliff.catalog.offers import check_residency
from feinschliff.cli.progress import TerminalObserver
from feinschliff.compose import own_market, study_backends
from feinschliff.core.errors import BadStudy
from feinschliff.core.study import Study
from feinschliff.report import terminal
from feinschliff.report.html import write_html

app = typer.Typer(help="Measure whether fine-tuning pays, and by how much.", no_args_is_help=True)


@app.command()
def run(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study file.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for everything the study makes. Default: out/NAME.", show_default=False)
    ] = None,
    test: Annotated[
        Path | None, typer.Option("--test", help="Another held-out file in place of the study's own.", show_default=False)
    ] = None,
    arms: Annotated[
        str | None, typer.Option("--arms", help="Only these arms: base,prompt,tuned …", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before starting.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json instead of tables.")] = False,
) -> None:
    """Measure every arm on one held-out set, train, and end with a verdict. Run it again to go on after a stop."""
    study = _chosen(load_study(study_file), test, arms)
    check_residency(study.data.stays_in, HERE, own_market().regions.regions[HERE])
    base = study_file.resolve().parent
    folder = (out or Path("out") / study.name).resolve()
    console = Console(stderr=as_json)
    _plan(study, folder, console, yes)
    with TerminalObserver(console) as observer:
        backends = study_backends(study, folder, observer.note)
        report = asyncio.run(run_study(study, base, folder, backends, observer))
        observer.note("writing the report")
        layout = Layout(folder)
        answers = study_report.read_answers(study, base, layout, frozen_parts(layout.data), report)
        write_html(report, folder / "report.html", answers=answers)
    if as_json:
        sys.stdout.write(report.model_dump_json(indent=2) + "\n")
    else:
        terminal.show(report, console)
        _say(console, f"report: {folder / 'report.html'}")


@app.command()
def init(
    data_file: Annotated[Path, typer.Argument(help="JSONL, JSON, CSV, TSV or Parquet with labelled examples.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="The study file to write.")] = Path("STUDY.toml"),
) -> None:
    """Write a commented study file for a data file: its format and fields guessed, its questions left to you."""
    guessed = study_init(data_file, out)
    console = Console()
    _say(console, f"wrote {out} ({guessed.format} data). Answer the questions in it, then: feinschliff study run {out}")


def _chosen(study: Study, test: Path | None, arms: str | None) -> Study:
    """The study as the options change it, checked anew."""
    raw = study.model_dump()
    if arms is not None:
        raw["arms"] = tuple(a.strip() for a in arms.split(",") if a.strip())
    if not raw["arms"]:
        raise BadStudy("There is no arm to measure.", hint="Name some, such as base,prompt,tuned.")
    if test is not None:
        if not test.is_file():
            raise BadStudy(f"--test: there is no file {test}.", hint="Check the path; it is relative to where you are.")
        raw["split"]["test_files"] = (str(test.resolve()),)
    try:
        return Study.model_validate(raw)
    except ValidationError as error:
        raise BadStudy(
            f"--arms {arms}: {'; '.join(problems_of(error))}", hint="Arms are recipes such as base, prompt+retrieval, tuned."
        ) from None


def _plan(study: Study, folder: Path, console: Console, yes: bool) -> None:
    """Say what will be done; ask where somebody can answer."""
    h = study.training.hyperparameters
    _say(console, f"study {study.name}: {study.task}")
    _say(console, f"arms: {', '.join(study.arms)}; model: {study.model.base}; into {folder}")
    for name in dict.fromkeys(host for arm in study.arms if (host := study.host_of(arm))):
        _say(console, f"{name}: {study.hosted[name].model} in {study.hosted[name].region}")
    if any("tuned" in a for a in study.arms):
        rate = h.learning_rate if h.learning_rate == "auto" else f"{h.learning_rate:g}"
        runs = f", {study.training.seeds} seeds" if study.training.seeds > 1 else ""
        shares = ", ".join(f"{share:g}" for share in study.training.learning_curve if share < 1)
        curve = f"; a learning curve also on {shares} of the data" if shares else ""
        _say(console, f"training: {study.training.method.kind}, {h.n_epochs} epochs, batch {h.batch_size}, rate {rate}{runs}{curve}")
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadStudy("Nobody is there to confirm the start.", hint="Add --yes.")
    if not Confirm.ask("start?", console=console, default=True):
        raise typer.Exit(1)


def _say(console: Console, text: str) -> None:
    """A line as it is: paths and the user's own words hold brackets, and a wrapped path cannot be copied."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)

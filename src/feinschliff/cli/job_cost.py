"""What `feinschliff cost JOB` prints."""
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from feinschliff.catalog.fit import duration
from feinschliff.catalog.prices import money
from feinschliff.cli.service import opened
from feinschliff.compose import settings_folder
from feinschliff.core.settings import Settings

if TYPE_CHECKING:  # at run time only inside: the base install has no database
    from feinschliff.app.job_cost import JobCost


def show(job_id: str, data_dir: Path, database: str | None, *, as_json: bool) -> None:
    """Raises NotFound."""
    with opened(Settings(data_dir=data_dir.resolve(), database_url=database, config=settings_folder())) as service:
        from feinschliff.app.job_cost import any_job_cost

        cost = any_job_cost(service, job_id)
    if as_json:
        sys.stdout.write(cost.model_dump_json(indent=2) + "\n")
    else:
        _print(cost)


def _print(cost: "JobCost") -> None:
    console, t, i = Console(), cost.training, cost.inference
    console.print(f"{cost.job_id} on {cost.model} in {cost.region}: {cost.status}, in {cost.currency}", highlight=False, soft_wrap=True)
    table = Table("", "amount", "of", header_style="bold")
    table.add_row("training", money(t.amount), f"{t.tokens:,} tokens, {duration(t.seconds)}; {duration(t.waited_seconds)} of waiting are free")
    if t.expected_tokens is not None and t.expected_seconds is not None and t.expected_amount is not None:
        table.add_row("… expected", money(t.expected_amount), f"{t.expected_tokens:,} tokens, {duration(t.expected_seconds)}")
    table.add_row("hosting", money(cost.hosting.amount), f"{cost.hosting.deployments} deployments, {cost.hosting.hours:,.1f} hours")
    amount = "not known" if i.amount is None and i.requests else money(i.amount or 0.0)
    table.add_row("answers", amount, f"{i.requests:,} requests, {i.input_tokens:,} tokens in, {i.output_tokens:,} out")
    table.add_row("total", money(cost.total), "", style="bold")
    console.print(table)
    for note in cost.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True, style="dim")

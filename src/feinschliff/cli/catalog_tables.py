"""What the `catalog` commands show at a terminal."""
from collections.abc import Sequence
from datetime import date
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from feinschliff.catalog.facts import RequestTokens, Stage
from feinschliff.catalog.models import HERE, CatalogModel
from feinschliff.catalog.query import tunable

STYLES: dict[Stage, str] = {"preview": "cyan", "available": "green", "deprecating": "yellow", "retired": "red"}


def show_models(models: Sequence[CatalogModel], today: date) -> None:
    """A section a family, a row a model; below, the warnings of those that are about to end."""
    console = Console()
    table = Table(header_style="bold")
    table.add_column("model", no_wrap=True)  # a name that is cut cannot be copied
    table.add_column("tuned in", overflow="fold")
    table.add_column("request", justify="right", overflow="fold")
    table.add_column("data to", no_wrap=True)
    table.add_column("stage", no_wrap=True)
    for family, members in groupby(models, key=lambda m: m.family):
        table.add_section()
        table.add_row(Text(family or "other", style="bold"))
        for model in members:
            stage = model.lifecycle.stage(today)
            table.add_row(
                Text(f"  {title(model)}"), Text(_places(model)), _request(model.max_request_tokens),
                model.training_data_until or "", Text(stage, style=STYLES[stage]),
            )  # fmt: skip
    console.print(table)
    for model in models:
        if model.lifecycle.stage(today) != "retired" and (warnings := model.lifecycle.warnings(today)):
            console.print(Text(f"{title(model)} ({model.provider}): {' '.join(warnings)}", style="yellow"), soft_wrap=True)
    count = f"{len(models)} model{'s' * (len(models) != 1)}"
    console.print(f"{count}; facts with their sources: --json", highlight=False)


def title(model: CatalogModel) -> str:
    return f"{model.id} ({model.version})" if model.version and not model.id.endswith(model.version) else model.id


def _places(model: CatalogModel) -> str:
    if not tunable(model):
        return "reinforcement only" if model.tuning_methods else ""
    here = (HERE,) if model.sources and HERE not in model.fine_tune_regions else ()
    return ", ".join((*model.fine_tune_regions, *here))


def _request(tokens: RequestTokens) -> str:
    if tokens.input is None:
        return ""
    return f"{tokens.input:,}" + (f" +\u00a0{tokens.output:,}" if tokens.output is not None else "")

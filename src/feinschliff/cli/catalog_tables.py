"""What the `catalog` commands show at a terminal."""
from collections.abc import Sequence
from datetime import date
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from feinschliff.catalog.facts import RequestTokens, Stage
from feinschliff.catalog.fit import Fit, duration, gb
from feinschliff.catalog.models import HERE, CatalogModel
from feinschliff.catalog.query import tunable
from feinschliff.catalog.region_views import RegionView
from feinschliff.catalog.regions import Quota
from feinschliff.catalog.retirements import Retirement

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


def show_regions(regions: Sequence[RegionView]) -> None:
    """A row a region; below, the credentials that are not set."""
    console = Console()
    table = Table(header_style="bold")
    table.add_column("region", no_wrap=True)
    for name in ("kind", "place", "jobs at once", "quota", "data stays", "models"):
        table.add_column(name, justify="right" if name in ("jobs at once", "models") else "left", overflow="fold")
    for r in regions:
        place = " ".join(x for x in (r.location, r.training if r.training != "standard" else None) if x) or r.endpoint or ""
        table.add_row(
            Text(r.name), r.kind, Text(place), str(r.concurrency), Text(_quota(r.quota)), "yes" if r.data_residency else "no", str(len(r.models))
        )
    console.print(table)
    for r in regions:
        if r.credential_missing:
            console.print(Text(f"{r.name}: the environment variable {r.credential_missing} is not set", style="yellow"), soft_wrap=True)


def show_fit(found: Fit, model: str, region: str) -> None:
    """The verdict with its numbers; time where it is known."""
    words = {
        "fits": "fits", "fits_recomputed": "fits if layers are recomputed in the backward pass (a third slower)",
        "too_large": "does not fit", "unknown": "may fit",
    }  # fmt: skip
    lines = [f"{model} in {region}: {words[found.verdict]}.", f"Memory: {found.why}."]
    if found.needs_bytes is not None and found.least_bytes is not None and found.verdict == "fits":
        lines[1] = f"Memory: {gb(found.needs_bytes)} (at least {gb(found.least_bytes)}) of {gb(found.usable_bytes)} that may be used."
    if found.seconds is not None:
        lines.append(f"Time: about {duration(found.seconds)}, less where examples share their beginnings.")
    for text in lines:
        Console().print(text, highlight=False, markup=False, soft_wrap=True)


def show_retirements(found: Sequence[Retirement], n_tuned: int) -> None:
    """A row a tuned model that ends, the soonest first."""
    console = Console()
    if not found:
        console.print(f"{n_tuned} tuned model{'s' * (n_tuned != 1)}; none ends with its base.", highlight=False)
        return
    table = Table(header_style="bold")
    table.add_column("tuned model", overflow="fold")
    for name in ("base", "answers until", "run again", "on", "for about"):
        table.add_column(name, overflow="fold")
    for r in found:
        until = f"{r.answers_until} ({r.days} days)" if r.days > 0 else f"{r.answers_until} (over)"
        price = "" if r.estimated_price is None else f"{r.estimated_price:,.2f} {r.currency}"
        table.add_row(
            Text(r.model), Text(r.base), Text(until, style="red" if r.days <= 0 else "yellow" if r.warned else ""),
            Text(f"study {r.study}" if r.study else ""), Text(r.successor or ""), price,
        )  # fmt: skip
    console.print(table)


def _quota(quota: Quota) -> str:
    parts = (
        (quota.training_tokens_per_month, "{:,} tokens"), (quota.money_per_month, "{:,.2f} money"), (quota.jobs_per_month, "{:,} jobs"),
    )  # fmt: skip
    given = [form.format(value) for value, form in parts if value is not None]
    return f"{', '.join(given)} a month" if given else ""

"""`feinschliff catalog …`: which models there are, where they can be tuned, what that takes, and until when."""
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import TypeAdapter

from feinschliff.app.study_models import tuned_models
from feinschliff.catalog.fit import Fit, Work, fit
from feinschliff.catalog.machine import this_machine
from feinschliff.catalog.models import CatalogModel
from feinschliff.catalog.offers import check_fit, check_offered, offered
from feinschliff.catalog.query import ModelView, Wanted, view
from feinschliff.catalog.region_views import RegionView, hardware_of, region_view
from feinschliff.catalog.regions import Regions
from feinschliff.catalog.retirements import Retirement, retirements
from feinschliff.cli import catalog_tables
from feinschliff.compose import own_market
from feinschliff.core.errors import NotOffered
from feinschliff.core.jobs import Full, Lora, Method

app = typer.Typer(help="Models, the regions that tune them, what that takes, and how long they last.", no_args_is_help=True)
VIEWS: TypeAdapter[tuple[ModelView, ...]] = TypeAdapter(tuple[ModelView, ...])
REGION_VIEWS: TypeAdapter[tuple[RegionView, ...]] = TypeAdapter(tuple[RegionView, ...])
RETIREMENTS: TypeAdapter[tuple[Retirement, ...]] = TypeAdapter(tuple[Retirement, ...])

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def models(
    region: Annotated[
        str | None,
        typer.Option("--region", help='Only models tuned there: a configured region, "Sweden Central", swedencentral …', show_default=False),
    ] = None,
    family: Annotated[str | None, typer.Option("--family", help='Only this family: "Phi-3", "Llama 3.1" …', show_default=False)] = None,
    task: Annotated[
        Literal["fine-tune", "chat", "completion", "embedding"] | None,
        typer.Option("--task", help="Only models for it: fine-tune, chat, completion or embedding.", show_default=False),
    ] = None,
    fits_this_machine: Annotated[
        bool, typer.Option("--fits-this-machine", help="Only models that LoRA can tune here, with examples of up to 1,024 tokens.")
    ] = False,
    current: Annotated[bool, typer.Option("--current", help="Leave out what can no longer be tuned anywhere.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the catalogue's models. The built-in list can be added to and overridden by models.toml in the settings folder."""
    today = _today()
    here = this_machine(measured=False) if fits_this_machine else None
    found = own_market().listed(Wanted(region=region, family=family, task=task, current=current), today, here)
    if as_json:
        _print(VIEWS.dump_json(tuple(view(m, today) for m in found), indent=2))
    else:
        catalog_tables.show_models(found, today)


@app.command()
def regions(as_json: AsJson = False) -> None:
    """List the regions configured here: this machine, and those of regions.toml in the settings folder."""
    market = own_market()
    views = tuple(region_view(name, region, market.models, _today()) for name, region in market.regions.regions.items())
    if as_json:
        _print(REGION_VIEWS.dump_json(views, indent=2))
    else:
        catalog_tables.show_regions(views)


@app.command(name="fit")
def fit_(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A catalogue id.", show_default=False)],
    region: Annotated[str, typer.Option("--region", help="Where it would be tuned.")] = "local",
    method: Annotated[Literal["lora", "full"], typer.Option("--method", help="lora or full.")] = "lora",
    rank: Annotated[int, typer.Option("--rank", min=1, max=512, help="Of LoRA's matrices.")] = 16,
    longest: Annotated[int, typer.Option("--longest", min=1, help="Tokens of the longest example.")] = 1024,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Examples in an optimizer step.")] = 16,
    examples: Annotated[int, typer.Option("--examples", min=0, help="Examples in the training data, for an estimate of the time.")] = 0,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="How often each is seen.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Say whether a job fits before it starts: memory and time, and where it does not, the nearest thing that does."""
    market = own_market()
    catalog, known = market.models, market.regions
    name, place = known.find(region, catalog)
    chosen = _offered_there(catalog.find(model), name, known, catalog.models)
    by: Method = Full() if method == "full" else Lora(rank=rank)
    half = longest // 2  # examples are rarely as long as the longest
    work = Work(longest=longest, step=max(longest, batch * half), per_epoch=examples * half, trained=examples * half // 2, epochs=epochs)
    hardware = hardware_of(name, place)
    if hardware is None:
        raise NotOffered(f"What {name} computes with is its provider's concern, or not stated.", hint="For a cluster, set memory_gb in regions.toml.")
    found: Fit = fit(chosen, by, "auto", work, hardware, catalog)
    if as_json:
        _print(found.model_dump_json(indent=2).encode())
    elif found.verdict != "too_large":
        catalog_tables.show_fit(found, chosen.id, name)
    check_fit(found, chosen, name)


@app.command(name="retirements")
def retirements_(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[FOLDER]...", help="Folders of studies, or folders of such. Default: out.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List tuned models that die with their base: until when, which study to run again on what, and for how much."""
    market = own_market()
    tuned = tuned_models(folders or [Path("out")], market.regions)
    found = retirements(tuned, market.models, market.prices, _today())
    if as_json:
        _print(RETIREMENTS.dump_json(found, indent=2))
    else:
        catalog_tables.show_retirements(found, len(tuned))


def _offered_there(model: CatalogModel, name: str, known: Regions, others: tuple[CatalogModel, ...]) -> CatalogModel:
    """The model, or the one of the same name at the region's own provider. Raises NotOffered."""
    same = [m for m in others if model.id in m.names and offered(m, known.regions[name])]
    chosen = same[-1] if same and not offered(model, known.regions[name]) else model
    check_offered(chosen, name, known, _today())
    return chosen


def _today() -> date:
    return datetime.now(UTC).date()


def _print(text: bytes) -> None:
    sys.stdout.write(text.decode() + "\n")

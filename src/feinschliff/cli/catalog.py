"""`feinschliff catalog …`: which models there are, where they can be tuned, and until when."""
import sys
from datetime import UTC, datetime
from typing import Annotated, Literal

import typer
from pydantic import TypeAdapter

from feinschliff.catalog.query import ModelView, Wanted, matching, view
from feinschliff.cli import catalog_tables
from feinschliff.compose import own_catalog

app = typer.Typer(help="Models, the regions that tune them, and how long they last.", no_args_is_help=True)
VIEWS: TypeAdapter[tuple[ModelView, ...]] = TypeAdapter(tuple[ModelView, ...])

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def models(
    region: Annotated[
        str | None, typer.Option("--region", help="Only models tuned there: `local`, \"Sweden Central\", swedencentral …", show_default=False)
    ] = None,
    family: Annotated[str | None, typer.Option("--family", help="Only this family: \"Phi-3\", \"Llama 3.1\" …", show_default=False)] = None,
    task: Annotated[
        Literal["fine-tune", "chat", "completion", "embedding"] | None,
        typer.Option("--task", help="Only models for it: fine-tune, chat, completion or embedding.", show_default=False),
    ] = None,
    current: Annotated[bool, typer.Option("--current", help="Leave out what can no longer be tuned anywhere.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the catalogue's models. The built-in list can be added to and overridden by models.toml in the settings folder."""
    today = datetime.now(UTC).date()
    found = matching(own_catalog(), Wanted(region=region, family=family, task=task, current=current), today)
    if as_json:
        sys.stdout.write(VIEWS.dump_json(tuple(view(m, today) for m in found), indent=2).decode() + "\n")
    else:
        catalog_tables.show_models(found, today)

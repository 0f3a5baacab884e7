"""`feinschliff backup` and `feinschliff restore`."""
import sys
from pathlib import Path
from typing import Annotated

import typer

from feinschliff.cli.service import DATA_DIR, DatabaseUrl, DataDir, opened
from feinschliff.core.errors import BadData, MissingExtra
from feinschliff.core.settings import Settings


def backup(
    target: Annotated[Path, typer.Argument(help="A new or empty folder.", show_default=False)],
    data_dir: DataDir = DATA_DIR,
    database: DatabaseUrl = None,
) -> None:
    """Copy the service's database, files and tuned models, also while it runs. Exit code 1: stored files were damaged."""
    if not (data_dir / "blobs").is_dir():
        raise BadData(f"{data_dir} is no data folder of the service.", hint="Name it with --data-dir.")
    with opened(Settings(data_dir=data_dir.resolve(), database_url=database)) as service:
        from feinschliff.app.backup import back_up

        made = back_up(service, target.resolve())
    sys.stdout.write(f"{made.n_files} files, {made.n_bytes:,} bytes in {target}\n")
    if not made.database:
        sys.stderr.write("The tables are in PostgreSQL and not in the backup: save them with pg_dump.\n")
    for sha256 in made.damaged:
        sys.stderr.write(f"damaged or missing, not in the backup: blobs/{sha256[:2]}/{sha256}\n")
    if made.damaged:
        raise typer.Exit(1)


def restore(
    source: Annotated[Path, typer.Argument(help="A folder that `feinschliff backup` made.", show_default=False)],
    data_dir: DataDir = DATA_DIR,
    replace: Annotated[bool, typer.Option("--replace", help="Move the data that is there aside.")] = False,
) -> None:
    """Make a data folder of a backup, every checksum compared. Stop the server first."""
    try:
        from feinschliff.app.backup import restore as bring_back
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "sqlalchemy", extra="service", feature="The service") from None
    aside = bring_back(source.resolve(), data_dir.resolve(), replace=replace)
    sys.stdout.write(f"restored to {data_dir}\n")
    if aside is not None:
        sys.stdout.write(f"what was there is in {aside}\n")

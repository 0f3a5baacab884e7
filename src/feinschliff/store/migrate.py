"""Bring a database to the present form of the tables; a SQLite file is copied beside itself first."""
import sqlite3
from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from feinschliff.core.errors import FeinschliffError
from feinschliff.data.files import locked
from feinschliff.store.database import Database


def migrate(database: Database, data_dir: Path) -> Path | None:
    """Run what is missing; the path of the backup that was made, if one was.

    Raises FeinschliffError where the database was written by a later version.
    """
    config = Config()
    config.set_main_option("script_location", str(files("feinschliff.store").joinpath("migrations")))
    with locked(data_dir / "migrate.lock"):
        now, newest = _revision(database), ScriptDirectory.from_config(config).get_current_head()
        if now == newest:
            return None
        _refuse_later(config, now)
        backup = _back_up(database, data_dir, now) if now and database.is_sqlite else None
        with database.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    return backup


def _revision(database: Database) -> str | None:
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _refuse_later(config: Config, now: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if now is not None and now not in known:
        raise FeinschliffError(
            f"The database is of a later version (revision {now}) than this program.",
            hint="Install the version that wrote it, or restore an earlier backup.",
        )


def _back_up(database: Database, data_dir: Path, revision: str) -> Path:
    target = data_dir / f"before-migration-from-{revision}.sqlite"
    copy_sqlite(database, target)
    return target


def copy_sqlite(database: Database, target: Path) -> None:
    """A consistent copy, also while others write."""
    source = sqlite3.connect(str(database.engine.url.database))
    copy = sqlite3.connect(target)
    try:
        source.backup(copy)
    finally:
        copy.close()
        source.close()

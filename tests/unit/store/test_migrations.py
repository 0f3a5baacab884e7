"""Migrations lead to the tables that the code works with."""
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Float

from feinschliff.store.database import Database
from feinschliff.store.migrate import migrate
from feinschliff.store.tables import Base


def type_differs(context, inspected, meant, inspected_type, meant_type):
    """Databases know one floating-point type under several names. None: as Alembic finds."""
    return False if isinstance(inspected_type, Float) and isinstance(meant_type, Float) else None


def test_a_migrated_database_has_the_codes_tables(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'new.sqlite'}")
    try:
        migrate(database, tmp_path)
        with database.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": type_differs})
            assert compare_metadata(context, Base.metadata) == []
    finally:
        database.close()

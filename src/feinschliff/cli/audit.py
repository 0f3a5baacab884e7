"""`feinschliff audit`."""
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from feinschliff.cli.service import DATA_DIR, DatabaseUrl, DataDir, opened
from feinschliff.core.settings import Settings


def audit(
    action: Annotated[str, typer.Option(help="What actions begin with: job. or deployment.delete", show_default=False)] = "",
    subject: Annotated[str, typer.Option(help="What was changed: its id or name.", show_default=False)] = "",
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    data_dir: DataDir = DATA_DIR,
    database: DatabaseUrl = None,
) -> None:
    """Who changed what in the service, and when, in all projects; the newest first."""
    with opened(Settings(data_dir=data_dir.resolve(), database_url=database)) as service:
        from feinschliff.app.changes import all_changes

        found = all_changes(service, limit=limit, action=action, subject=subject)
    if as_json:
        sys.stdout.writelines(change.model_dump_json() + "\n" for change in found)
        return
    table = Table("when (UTC)", "who", "project", "what", "subject")
    for change in found:
        when = datetime.fromtimestamp(change.created_at, UTC).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(when, change.key_id, change.project_id, change.action, change.subject)
    Console().print(table)

"""`feinschliff`: the commands, and the one place where expected errors become messages and exit codes."""
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from feinschliff import __version__
from feinschliff.cli import audit, backup, catalog, cost, data, jobs, service, study
from feinschliff.core.errors import FeinschliffError

INTERRUPTED = 130  # what Typer makes of Ctrl-C

app = typer.Typer(
    name="feinschliff",
    help="From 'should we fine-tune?' to a measured model, on your own machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(study.app, name="study")
app.add_typer(data.app, name="data")
app.add_typer(catalog.app, name="catalog")
app.add_typer(jobs.app, name="jobs")
app.command(name="cost")(cost.cost)
app.command()(service.serve)
app.add_typer(service.keys, name="keys")
app.command()(audit.audit)
app.command()(backup.backup)
app.command()(backup.restore)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"feinschliff {__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)] = False,
) -> None:
    """From 'should we fine-tune?' to a measured model, on your own machines."""


def main() -> None:
    """Run the command line. Exit code 2: the request cannot be carried out as put; 1: a check or a run failed."""
    try:
        app()
    except FeinschliffError as error:
        _fail(error.message, error.hint)
        sys.exit(error.exit_code)
    except OSError as error:  # a disk that is full, a folder that may not be read: nothing that a program can mend
        _fail(f"{error.filename or 'writing'}: {error.strerror or error}", "Check free space and permissions.")
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            sys.stderr.write("stopped; run the same command again to go on\n")
        raise


def _fail(message: str, hint: str) -> None:
    errors = Console(stderr=True)
    errors.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
    if hint:
        errors.print(Text.assemble(("hint: ", "bold"), hint), soft_wrap=True)


if __name__ == "__main__":
    main()

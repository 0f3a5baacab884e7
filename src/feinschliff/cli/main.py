"""`feinschliff`: the commands, and the one place where expected errors become messages and exit codes."""
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from feinschliff import __version__
from feinschliff.cli import data, study
from feinschliff.core.errors import FeinschliffError

app = typer.Typer(
    name="feinschliff",
    help="From 'should we fine-tune?' to a measured model, on your own machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(study.app, name="study")
app.add_typer(data.app, name="data")


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
        errors = Console(stderr=True)
        errors.print(Text.assemble(("error: ", "bold red"), error.message), soft_wrap=True)
        if error.hint:
            errors.print(Text.assemble(("hint: ", "bold"), error.hint), soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; run the same command again to go on\n")
        sys.exit(130)
    except BrokenPipeError:  # `feinschliff … | head`
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()

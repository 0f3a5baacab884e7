"""`feinschliff serve` and `feinschliff keys …`."""
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from feinschliff.compose import settings_folder
from feinschliff.core.errors import FeinschliffError, MissingExtra
from feinschliff.core.service import Scope
from feinschliff.core.settings import EngineName, Limits, LogFormat, Settings

if TYPE_CHECKING:  # at run time only inside the commands: the base install has no web framework
    from feinschliff.app.service import Service

keys = typer.Typer(help="API keys of the service: create, list, revoke.", no_args_is_help=True)

DataDir = Annotated[
    Path, typer.Option("--data-dir", envvar="FEINSCHLIFF_DATA_DIR", help="Folder for everything the service keeps.", show_envvar=False)
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database", envvar="FEINSCHLIFF_DATABASE", help="postgresql://USER:PASSWORD@HOST/NAME. Default: SQLite in the data folder.",
        show_default=False, show_envvar=False,
    ),
]  # fmt: skip
DATA_DIR = Path("feinschliff-data")


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; beyond this machine only with keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    data_dir: DataDir = DATA_DIR,
    database: DatabaseUrl = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="NAME=FOLDER: offer a model folder under this name. May be repeated.", show_default=False)
    ] = None,
    catalogue: Annotated[
        Path | None, typer.Option(help="A model list of your own, on top of the built-in one.", show_default=False)
    ] = None,
    organization: Annotated[str, typer.Option(help="Part of the names of tuned models.")] = "local",
    limit: Annotated[
        list[str] | None, typer.Option("--limit", help="NAME=NUMBER: one of the limits in docs/service.md. May be repeated.", show_default=False)
    ] = None,
    import_from: Annotated[
        list[str] | None,
        typer.Option("--import-from", help="HOST or HOST:PORT from which clients may have files fetched. May be repeated.", show_default=False),
    ] = None,
    track_to: Annotated[
        list[str] | None,
        typer.Option("--track-to", help="URI of an MLflow server that jobs may name, beside MLFLOW_TRACKING_URI. May be repeated.", show_default=False),
    ] = None,
    log_format: Annotated[LogFormat, typer.Option(help="Of the log on standard error: a JSON object a line, or text for people.")] = "json",
    engine: Annotated[
        EngineName, typer.Option(help="What answers: vLLM where it is installed and there is a CUDA device, or always the one that is named.")
    ] = "auto",
    vllm_python: Annotated[
        Path | None,
        typer.Option(envvar="FEINSCHLIFF_VLLM_PYTHON", help="Interpreter of an environment that has vLLM.", show_default="this one", show_envvar=False),
    ] = None,
    vllm_options: Annotated[
        str | None, typer.Option("--vllm-options", help="Further options of `vllm serve`, as on a command line.", show_default=False)
    ] = None,
    admin_key: Annotated[
        str | None,
        typer.Option(envvar="FEINSCHLIFF_ADMIN_KEY", help="Preset the admin key; better by environment.", show_default=False, show_envvar=False),
    ] = None,
) -> None:
    """Serve the fine-tuning API: point your client's base URL here. The first start prints an admin key."""
    settings = Settings(
        data_dir=data_dir.resolve(), host=host, port=port, database_url=database, admin_key=admin_key,
        models=_folders(model or []), config=settings_folder(), catalogue=catalogue, organization=organization,
        import_from=frozenset(import_from or ()), track_to=frozenset(track_to or ()), log_format=log_format,
        limits=limits_of(limit or []), engine=engine, vllm_python=vllm_python and vllm_python.absolute(),
        vllm_options=_words(vllm_options or ""),
    )  # fmt: skip
    with opened(settings, traced=True) as service:
        from feinschliff.api.server import is_loopback, listen, run_server
        from feinschliff.app.keys import first_key, has_keys
        from feinschliff.app.presence import alone_in
        from feinschliff.compose_service import working

        if not is_loopback(host) and admin_key is None and not has_keys(service):
            raise FeinschliffError(
                f"There are no API keys yet: refusing to listen on {host}, beyond this machine.",
                hint="Run `feinschliff keys create` first, or set FEINSCHLIFF_ADMIN_KEY.",
            )
        with alone_in(settings.data_dir, "One server works in a data folder: stop that one, or name another with --data-dir."), listen(host, port) as door:
            made = first_key(service)
            if made is not None:
                _say(f"admin key (shown only now): {made}")
            _say(f"engine: {service.live.program.name}")
            with working(service):
                run_server(service, door, lambda address: _say(f"listening on {address}/v1"))


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, or what for.", show_default=False)],
    scope: Annotated[Scope, typer.Option(help="What it may do: read, write or admin; each includes those before it.")] = Scope.WRITE,
    project: Annotated[str, typer.Option(help="The project whose things it opens; made if need be.")] = "default",
    data_dir: DataDir = DATA_DIR,
    database: DatabaseUrl = None,
) -> None:
    """Make a key and print it: it is stored as a hash, so this is the only time."""
    with opened(Settings(data_dir=data_dir.resolve(), database_url=database)) as service:
        from feinschliff.app.keys import create_key

        key_id, text = create_key(service, project=project, name=name, scope=scope)
        _say(text)
        sys.stderr.write(f"{key_id}: scope {scope}, project {project}\n")


@keys.command(name="list")
def list_all(data_dir: DataDir = DATA_DIR, database: DatabaseUrl = None) -> None:
    """Show every key's id, beginning, scope and project."""
    with opened(Settings(data_dir=data_dir.resolve(), database_url=database)) as service:
        from feinschliff.app.keys import list_keys

        table = Table("id", "key", "name", "project", "scope", "")
        for key in list_keys(service):
            table.add_row(key.id, key.hint, key.name, key.project, key.scope, "revoked" if key.revoked else "")
        Console().print(table)


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="As `keys list` shows it.", show_default=False)],
    data_dir: DataDir = DATA_DIR,
    database: DatabaseUrl = None,
) -> None:
    """Make a key useless, at once."""
    with opened(Settings(data_dir=data_dir.resolve(), database_url=database)) as service:
        from feinschliff.app.keys import revoke_key

        revoke_key(service, key_id)


@contextmanager
def opened(settings: Settings, *, traced: bool = False) -> Iterator["Service"]:
    try:
        from feinschliff.compose_service import open_service
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "fastapi", extra="service", feature="The service") from None
    with open_service(settings, traced=traced) as service:
        yield service


def _folders(given: list[str]) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        path = Path(folder).expanduser().resolve()
        if not equals or not name or not (path / "config.json").is_file():
            raise FeinschliffError(f"--model {text}: this is no NAME=FOLDER of a model.", hint="The folder holds config.json and weights.")
        folders[name] = path
    return folders


def limits_of(given: list[str]) -> Limits:
    """NAME=NUMBER each. Raises FeinschliffError."""
    numbers = {name: number for name, _, number in (text.partition("=") for text in given)}
    try:
        return Limits.model_validate(numbers)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise FeinschliffError(
            f"--limit {name}={numbers.get(name, '')}: {error.errors()[0]['msg']}.", hint=f"Limits: {', '.join(Limits.model_fields)}."
        ) from None


def _words(options: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(options))
    except ValueError as error:
        raise FeinschliffError(f"--vllm-options {options}: {error}.", hint="Write them as on a command line; quote what holds spaces.") from None


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

"""The command line's reference, written from the commands themselves: `python -m feinschliff.cli.reference`."""
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Literal, Union, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from feinschliff.cli.main import app

INTRODUCTION = """\
# The command line

Every command explains itself with `--help`; this page says the same (written from the commands by `make docs`).

Exit codes: 0 done; 1 a check or a run failed, or its answer is no; 2 the request cannot be carried out as put.
Errors are two lines on standard error, `error:` with the place and `hint:` with the remedy. Ctrl-C ends with 130; the same
command, given again, goes on where it stopped.
"""
WORDS: dict[object, str] = {str: "text", int: "whole number", float: "number", Path: "path", bool: "flag"}

Parameter = TyperArgument | TyperOption


def render_cli_reference() -> str:
    """Markdown: a section a command with its usage, arguments and options."""
    group = typer.main.get_command(app)
    if not isinstance(group, TyperGroup):
        raise TypeError("the application has a single command")
    return "\n".join([INTRODUCTION, *_group("feinschliff", group)])


def _group(path: str, group: TyperGroup) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield f"## `{path} {name}`\n\n{command.help or ''}\n"
            yield from _group(f"{path} {name}", command)
        elif isinstance(command, TyperCommand):
            yield from _command(f"{path} {name}", command)


def _command(path: str, command: TyperCommand) -> Iterator[str]:
    parameters = [p for p in command.params if isinstance(p, TyperArgument | TyperOption) and not p.hidden]
    arguments = [p for p in parameters if isinstance(p, TyperArgument)]
    usage = " ".join([path, *(_argument(p) for p in arguments), "[OPTIONS]" if len(parameters) > len(arguments) else ""])
    yield f"### `{path}`\n\n{inspect.cleandoc(command.help or '')}\n\n    {usage.strip()}\n"
    if parameters:
        yield "| | type | default | description |\n|---|---|---|---|"
        hints = _hints(command.callback)
        yield from (_row(p, hints.get(p.name or "")) for p in parameters)
        yield ""


def _hints(callback: Callable[..., object] | None) -> dict[str, object]:
    return {} if callback is None else get_type_hints(inspect.unwrap(callback))


def _row(parameter: Parameter, annotation: object) -> str:
    name = _argument(parameter) if isinstance(parameter, TyperArgument) else ", ".join([*parameter.opts, *parameter.secondary_opts])
    default = "required" if parameter.required else ""
    value: object = parameter.default
    if not parameter.required and value is not None and not isinstance(value, bool):
        default = f"`{value}`"
    cells = (f"`{name}`", f"{_type(annotation)}{_bounds(parameter)}", default, parameter.help or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _argument(parameter: Parameter) -> str:
    return parameter.metavar or (parameter.name or "").upper()


def _type(annotation: object) -> str:
    if get_origin(annotation) in (types.UnionType, Union):
        annotation = next(a for a in get_args(annotation) if a is not type(None))
    if get_origin(annotation) is list:  # an option that may be repeated; its help says so
        (annotation,) = get_args(annotation)
    if get_origin(annotation) is Literal or (isinstance(annotation, type) and issubclass(annotation, Enum)):
        return WORDS[str]  # the values stand in the option's help
    return WORDS.get(annotation, str(annotation))


def _bounds(parameter: Parameter) -> str:
    low, high = parameter.min, parameter.max
    if low is None and high is None:
        return ""
    said = [f"from {low:g}" if low is not None else "", f"to {high:g}" if high is not None else ""]
    return ", " + " ".join(part for part in said if part)


if __name__ == "__main__":
    sys.stdout.write(render_cli_reference())

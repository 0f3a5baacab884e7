"""docs/cli.md cannot lie."""
from pathlib import Path

import typer
from typer.core import TyperGroup

from feinschliff.cli.main import app
from feinschliff.cli.reference import render_cli_reference

PAGE = Path(__file__).resolve().parents[3] / "docs" / "cli.md"


def _paths(group, path):
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, TyperGroup):
            yield from _paths(command, f"{path} {name}")


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == render_cli_reference(), "run `make docs`"


def test_every_command_and_every_option_is_on_the_page():
    page = render_cli_reference()
    found = list(_paths(typer.main.get_command(app), "feinschliff"))
    assert len(found) > 5
    for path, command in found:
        assert f"# `{path}`\n" in page
        section = page.partition(f"# `{path}`\n")[2].partition("\n#")[0]
        for parameter in command.params:
            assert parameter.opts[0].startswith("-") is False or f"`{parameter.opts[0]}" in section, (path, parameter.name)


def test_every_row_has_a_known_type_and_a_description():
    rows = [line.split(" | ") for line in render_cli_reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    assert {row[1].partition(",")[0] for row in rows} <= {"text", "path", "number", "whole number", "flag"}
    assert [row[0] for row in rows if not row[3].strip(" |")] == []

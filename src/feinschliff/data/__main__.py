"""`python -m feinschliff.data FILE [--model FOLDER]`: check a training file, in a process of its own, and write a FileCheck.

A file of hundreds of megabytes takes gigabytes to look at; a server that did so itself would keep them.
"""
import argparse
import sys
from pathlib import Path

from feinschliff.core.errors import FeinschliffError
from feinschliff.core.findings import FileCheck, Finding, FindingGroup
from feinschliff.data.read import read
from feinschliff.data.render import Renderer
from feinschliff.data.validate import grouped, report_of


def check_file(path: Path, model: Path | None) -> FileCheck:
    """Everything `data.validate` finds, the first 20 lines of each kind. What cannot be read at all is a finding, too."""
    try:
        renderer = Renderer.of(model) if model else None
        report, audit = report_of(read(path), renderer=renderer)
    except FeinschliffError as error:
        found = Finding(line=0, level="error", code=error.code, message=error.message, hint=error.hint)
        return FileCheck(n_examples=0, n_errors=1, n_warnings=0, groups=(_group(found.code, [found], 1),))
    return FileCheck(
        n_examples=report.n_examples,
        n_errors=report.n_errors,
        n_warnings=report.n_warnings,
        groups=tuple(_group(code, first, n) for code, first, n in grouped(report.findings)),
        n_tokens=audit.n_tokens if audit else None,
        n_trained=audit.n_trained if audit else None,
        n_too_long=audit.n_too_long if audit else None,
    )


def _group(code: str, first: list[Finding], n: int) -> FindingGroup:
    return FindingGroup(code=code, level=first[0].level, n=n, first=tuple(first))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m feinschliff.data")
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", type=Path, help="a model folder: its tokens are counted too")
    arguments = parser.parse_args()
    sys.stdout.write(check_file(arguments.file, arguments.model).model_dump_json() + "\n")


if __name__ == "__main__":
    main()

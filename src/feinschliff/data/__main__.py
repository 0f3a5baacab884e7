"""`python -m feinschliff.data FILE [--model FOLDER] [--out CHATS]`: check a training file in a process of its own; write a FileCheck.

A file of hundreds of megabytes takes gigabytes to look at; a server that did so itself would keep them.
"""
import argparse
import json
import sys
from pathlib import Path

from feinschliff.core.chat import Example
from feinschliff.core.errors import FeinschliffError
from feinschliff.core.findings import FileCheck, Finding, FindingGroup
from feinschliff.core.service_errors import NO_ROOM_EXIT, is_full
from feinschliff.data.convert import write_jsonl
from feinschliff.data.read import read
from feinschliff.data.render import Renderer
from feinschliff.data.validate import grouped, report_of


def check_file(path: Path, model: Path | None, out: Path | None) -> FileCheck:
    """Everything `data.validate` finds, the first 20 lines of each kind. What cannot be read at all is a finding, too.

    With `out`, what could be read is written there as chats, whatever format it came in.
    """
    try:
        renderer = Renderer.of(model) if model else None
        result = read(path)
        report, audit = report_of(result, renderer=renderer)
        if out is not None:
            write_jsonl(out, result.examples, with_meta=False, force=True)
    except FeinschliffError as error:
        if is_full(error):  # which says nothing about the file
            raise
        found = Finding(line=0, level="error", code=error.code, message=error.message, hint=error.hint)
        return FileCheck(n_examples=0, n_errors=1, n_warnings=0, groups=(_group(found.code, [found], 1),))
    characters = [_characters(e) for e in result.examples]
    return FileCheck(
        n_examples=report.n_examples,
        n_errors=report.n_errors,
        n_warnings=report.n_warnings,
        groups=tuple(_group(code, first, n) for code, first, n in grouped(report.findings)),
        n_tokens=audit.n_tokens if audit else None,
        n_trained=audit.n_trained if audit else None,
        n_too_long=audit.n_too_long if audit else None,
        longest=audit.longest if audit else None,
        n_characters=sum(characters),
        longest_characters=max(characters, default=0),
    )


def _characters(example: Example) -> int:
    """Of what is said, tools and calls included."""
    calls = [call.function.name + call.function.arguments for m in example.messages for call in m.tool_calls or ()]
    tools = [json.dumps(tool, ensure_ascii=False) for tool in example.tools or ()]
    return sum(map(len, (*(m.content or "" for m in example.messages), *calls, *tools)))


def _group(code: str, first: list[Finding], n: int) -> FindingGroup:
    return FindingGroup(code=code, level=first[0].level, n=n, first=tuple(first))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m feinschliff.data")
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", type=Path, help="a model folder: its tokens are counted too")
    parser.add_argument("--out", type=Path, help="where to write the examples as chat JSONL")
    arguments = parser.parse_args()
    try:
        check = check_file(arguments.file, arguments.model, arguments.out)
    except FeinschliffError as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(NO_ROOM_EXIT)
    sys.stdout.write(check.model_dump_json() + "\n")


if __name__ == "__main__":
    main()

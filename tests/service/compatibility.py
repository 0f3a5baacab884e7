"""docs/compatibility.md: what the tests have seen (`seen.json`) beside what is declared to differ (`compatibility.toml`).

`python compatibility.py collect FOLDER` makes seen.json of what `record` has written there; `python compatibility.py` prints the page.
`test_compatibility` holds the two against the published contract, and sends everything that is declared. See `make compatibility`.
"""
import json
import sys
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).parent
SEEN, DECLARED = HERE / "seen.json", HERE / "compatibility.toml"
PAGE = HERE.parents[1] / "docs" / "compatibility.md"
Seen = dict[str, dict[str, list[str]]]  # operation → status, body.NAME, query.NAME, response.NAME → files of tests
INTRODUCTION = """\
# Compatibility
What of OpenAI's published contract this service does, endpoint by endpoint and field by field. This page is generated (`make
compatibility`) and written by nobody: *taken* and *answered* are the fields that official clients have sent and got in the tests, every
answer checked against the contract; every field that is *refused* (400 that names it) or *ignored* (taken, without effect) is sent by a
test, and answered so. Fields within fields stand here
where they differ. Tests are those under `tests/service`. The record is as old as the last `make compatibility`; that it holds
every operation and field of the contract is tested.
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one operation. `send` is what the test adds to a request that is taken without it."""

    operation: str
    field: str
    state: Literal["refused", "ignored", "absent"]
    why: str
    send: dict[str, Any]


def seen() -> Seen:
    return json.loads(SEEN.read_text(encoding="utf-8"))


def declared() -> dict[str, Any]:
    return tomllib.loads(DECLARED.read_text(encoding="utf-8"))


def differences() -> list[Difference]:
    told = declared()["differences"]
    return [
        Difference(operation, field, state, said["why"], said.get("send", {}))
        for operation, states in told.items() for state, fields in states.items() for field, said in fields.items()
    ]  # fmt: skip


def collected(folder: Path) -> Seen:
    """Of every process, one record."""
    whole: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in folder.glob("*.json"):
        for operation, things in json.loads(path.read_text(encoding="utf-8")).items():
            for thing, files in things.items():
                whole[operation][thing] |= set(files)
    return {op: {thing: sorted(whole[op][thing]) for thing in sorted(whole[op])} for op in sorted(whole, key=lambda op: op.split(" ")[::-1])}


def page() -> str:
    told, found = declared(), seen()
    by_operation: defaultdict[str, list[Difference]] = defaultdict(list)
    for difference in differences():
        by_operation[difference.operation].append(difference)
    served = [_section(operation, things, by_operation[operation]) for operation, things in found.items() if operation not in told["not_served"]]
    rows = "".join(f"| `{operation}` | {why} |\n" for operation, why in told["not_served"].items())
    others = "".join(f"\n## {part['title']}\n{_rows(part['rows'])}" for part in told["dialects"])
    return f"{INTRODUCTION}\n" + "\n".join(served) + f"\n## Not served\nAnswered with 404 and OpenAI's error body.\n\n| | why |\n|---|---|\n{rows}{others}"


def _section(operation: str, things: dict[str, list[str]], differ: list[Difference]) -> str:
    files = sorted({file.removesuffix(".py") for where in things.values() for file in where})
    statuses = ", ".join(sorted(thing for thing in things if thing.isdigit()))
    lines = [f"## {operation}", f"Statuses seen: {statuses}. In {', '.join(files)}.", "", "| field | | why |", "|---|---|---|"]
    for kind, word in (("body.", "taken"), ("query.", "taken, in the query"), ("response.", "answered")):
        names = [f"`{thing.removeprefix(kind)}`" for thing in things if thing.startswith(kind) and thing not in {d.field for d in differ}]
        lines += [f"| {', '.join(names)} | {word} | |"] if names else []
    lines += [f"| `{d.field.partition('.')[2]}` | {'not in the answer' if d.state == 'absent' else d.state} | {d.why} |" for d in differ]
    return "\n".join(lines) + "\n"


def _rows(rows: list[dict[str, str]]) -> str:
    return "\n| what | how | test |\n|---|---|---|\n" + "".join(f"| {row['what']} | {row['how']} | `{row['test']}` |\n" for row in rows)


def main() -> None:
    match sys.argv[1:]:
        case ["collect", folder]:
            SEEN.write_text(json.dumps(collected(Path(folder)), indent=1) + "\n", encoding="utf-8")
        case _:
            print(page(), end="")


if __name__ == "__main__":
    main()

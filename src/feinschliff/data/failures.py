"""Failures of a study → training data, without the held-out set slipping in among them."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from feinschliff.core.chat import Example, ExampleId
from feinschliff.core.errors import BadData, CheckFailed
from feinschliff.data.convert import to_jsonl, write_jsonl
from feinschliff.data.files import read_bytes, write_atomically
from feinschliff.data.leakage import find_leaks
from feinschliff.data.read import load, read

EXPORT_FIELDS = frozenset({"reply", "labelled", "arm", "arms", "example_id", "score", "why"})


@dataclass(frozen=True, slots=True)
class Addition:
    """What `add_failures` did, in rows of the failures file. `moved` of the `added` were in the held-out set."""

    added: int
    unlabelled: int
    already_present: int
    refused: int  # held out, and left where they are
    moved: int
    n_training: int  # rows of the training file afterwards
    n_held_out_left: int


def add_failures(
    failures: Path,
    training: Path,
    held_out: Path,
    *,
    from_held_out: bool = False,
    remaining: Path | None = None,
) -> Addition:
    """Appends the labelled failures to a chat JSONL file in one step; the file is made where there is none.

    A row whose question is in `held_out` (the frozen test file; same example, same question up to spelling, or a
    near-duplicate) is refused, because a model trained on it can no longer be measured with it. `from_held_out` moves
    such rows over; the held-out set must then be frozen anew: `remaining` gets what is left of it, `held_out` itself is
    never touched. Raises BadData for unreadable files, CheckFailed where nothing can be added.
    """
    rows = _failures(failures)
    labelled = [row for row in rows if row.meta.get("labelled") is True]
    test = load(held_out)
    present = load(training) if training.exists() else ()
    known = {example.id for example in present}
    held_ids = _held_out_ids(labelled, test)
    wanted = labelled if from_held_out else [row for row in labelled if row.id not in held_ids]
    new: dict[ExampleId, Example] = {row.id: row for row in wanted if row.id not in known}
    refused = 0 if from_held_out else sum(row.id in held_ids for row in labelled)
    if not new:
        _nothing(failures, len(rows), len(labelled), refused)
    left = _left(test, [row for row in new.values() if row.id in held_ids])
    if from_held_out and remaining is not None:
        write_jsonl(remaining, left)
    _append(training, tuple(new.values()))
    return Addition(
        added=len(new),
        unlabelled=len(rows) - len(labelled),
        already_present=len(wanted) - len(new),
        refused=refused,
        moved=sum(row_id in held_ids for row_id in new),
        n_training=len(present) + len(new),
        n_held_out_left=len(left),
    )


def find_held_out(failures: Path) -> Path | None:
    """The frozen test file of the study that exported these failures: test.jsonl beside them or one folder down."""
    folder = failures.resolve().parent
    places = [folder / "test.jsonl", *sorted(folder.glob("*/test.jsonl"))]
    return next((place for place in places if place.is_file()), None)


def _failures(path: Path) -> tuple[Example, ...]:
    """Rows not yet labelled may still have an empty answer; broken rows stop everything, with their line."""
    result = read(path, "chat")
    if result.errors:
        first = result.errors[0]
        raise BadData(f"{path}, line {first.line}: {first.message}", hint=first.hint)
    for example in result.examples:
        if example.meta.get("labelled") is True and not (example.messages[-1].role == "assistant" and example.answer.strip()):
            raise BadData(
                f"{path}, line {example.line} is marked as labelled but has no answer.",
                hint='Write the right answer into its last message, or set "labelled": false.',
            )
    return result.examples


def _held_out_ids(rows: Sequence[Example], test: Sequence[Example]) -> frozenset[ExampleId]:
    """Rows that are held out: by the id they were exported with, or, their answer edited since, by their question."""
    exported = {str(example.id) for example in test}
    by_export = {row.id for row in rows if str(row.meta.get("example_id")) in exported}
    return find_leaks(rows, test).leaked_ids | by_export


def _left(test: Sequence[Example], moved: Sequence[Example]) -> tuple[Example, ...]:
    exported = {str(row.meta.get("example_id")) for row in moved}
    asked = find_leaks(test, moved).leaked_ids
    return tuple(example for example in test if example.id not in asked and str(example.id) not in exported)


def _append(training: Path, rows: Sequence[Example]) -> None:
    """What the file has stays byte for byte."""
    before = read_bytes(training) if training.exists() else b""
    if before and not before.endswith(b"\n"):
        before += b"\n"
    clean = [
        row.model_copy(update={"meta": {k: v for k, v in row.meta.items() if k not in EXPORT_FIELDS}}) for row in rows
    ]
    write_atomically(training, before + to_jsonl(clean))


def _nothing(failures: Path, n: int, n_labelled: int, n_refused: int) -> None:
    if n_labelled == 0:
        raise CheckFailed(
            f"None of the {n} rows in {failures} is labelled.",
            hint='Correct the last message of each row that you have checked, and set "labelled": true.',
        )
    if n_refused == n_labelled:
        raise CheckFailed(
            f"All {n_refused} labelled rows are in the held-out set: trained on, they could not be measured with any more.",
            hint="Write new examples of the same kind, or move them over with --from-held-out and freeze a new held-out set.",
        )
    raise CheckFailed(f"All other labelled rows of {failures} are in the training data already ({n_refused} held out).")

"""The data of a study: read, checked, curated, parted, and frozen on disk with its hashes."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from feinschliff.core.chat import Example, Wire
from feinschliff.core.errors import BadData
from feinschliff.core.findings import CheckReport, Finding
from feinschliff.core.report import HeldOut, SplitReport
from feinschliff.core.study import Study
from feinschliff.data.curate import curate
from feinschliff.data.files import sha256_of, write_text
from feinschliff.data.read import load, read
from feinschliff.data.render import Renderer
from feinschliff.data.split import freeze, split, take
from feinschliff.data.validate import report_of

RECORD = "data.json"


class DataRecord(Wire):
    """`OUT/data/data.json`: what became of the data."""

    split: SplitReport
    check: CheckReport
    held_out: HeldOut


@dataclass(frozen=True, slots=True)
class StudyParts:
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    record: DataRecord

    def part_of(self, example: Example, field: str | None) -> str:
        return "" if field is None else str(example.meta.get(field, ""))


def prepare(study: Study, base: Path, folder: Path, base_model: Path) -> StudyParts:
    """The study's parts, from `folder` where a first run froze them, else made there and audited with the base model's renderer.

    Raises BadData where the data has errors, naming the first; and where a frozen file was changed afterwards.
    """
    if (folder / RECORD).is_file():
        return frozen_parts(folder)
    examples, check = _read_all(study, base, Renderer.of(base_model))
    examples, curation = curate(examples)
    if study.data.max_examples is not None:
        examples = take(examples, study.data.max_examples, study.split.seed)
    held_out = None
    if study.split.test_files:
        held_out = tuple(e for name in study.split.test_files for e in load(base / name, study.data.format, study.data.mapping))
        held_out = curate(held_out)[0]
    parts = split(examples, study.split, held_out)
    if not parts.test:
        raise BadData("The held-out set is empty.", hint="Name [split] test_files, or set `test` above 0.")
    frozen = freeze(folder, parts)
    record = DataRecord(
        check=check,
        held_out=HeldOut(n=len(parts.test), sha256=frozen["test"].sha256, parts=_sizes(parts.test, study.split.part)),
        split=SplitReport(
            n_read=check.n_examples, n_train=len(parts.train), n_validation=len(parts.validation), n_test=len(parts.test),
            n_duplicates_removed=curation.n_duplicates, leaks=parts.leakage.counts, n_leaks_removed=parts.n_dropped,
            n_train_used=len(parts.train), n_too_long=0,
        ),
    )  # fmt: skip
    write_text(folder / RECORD, record.model_dump_json(indent=2))  # last: its presence says that all is there
    return frozen_parts(folder)


def _read_all(study: Study, base: Path, renderer: Renderer) -> tuple[tuple[Example, ...], CheckReport]:
    examples: list[Example] = []
    findings: list[Finding] = []
    n = 0
    for name in study.data.files:
        result = read(base / name, study.data.format, study.data.mapping)
        report, _ = report_of(result, renderer=renderer, max_tokens=study.training.max_tokens)
        _refuse_errors(base / name, report)
        examples += result.examples
        findings += report.findings
        n += report.n_examples
    return tuple(examples), CheckReport.of(n, tuple(findings))


def _refuse_errors(path: Path, report: CheckReport) -> None:
    # Over-long examples do not stop a study: training leaves them out, and the report counts them.
    errors = [f for f in report.findings if f.level == "error" and f.code != "too_long"]
    if errors:
        first = errors[0]
        raise BadData(
            f"{path}, line {first.line}: {first.message} ({len(errors)} errors in all)",
            hint=f"{first.hint} See all of them: feinschliff data check {path}".strip(),
        )


def _sizes(test: Sequence[Example], field: str | None) -> dict[str, int]:
    if field is None:
        return {}
    missing = next((e for e in test if field not in e.meta), None)
    if missing is not None:
        raise BadData(
            f"[split] part = {field!r}: line {missing.line} of the held-out set has no such field.",
            hint=f"Its fields: {', '.join(missing.meta) or 'none'}.",
        )
    values = [str(e.meta[field]) for e in test]
    return {value: values.count(value) for value in sorted(set(values))}


def frozen_parts(folder: Path) -> StudyParts:
    """What `prepare` froze in `folder`. Raises BadData where the held-out file was changed since."""
    record = DataRecord.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
    if sha256_of(folder / "test.jsonl") != record.held_out.sha256:
        raise BadData(
            f"{folder / 'test.jsonl'} is not the held-out set that was frozen: its hash differs.",
            hint="Restore it, or start the study in a new folder (--out).",
        )
    train, validation, test = (_part(folder / f"{name}.jsonl") for name in ("train", "validation", "test"))
    return StudyParts(train, validation, test, record)


def _part(path: Path) -> tuple[Example, ...]:
    return load(path, "chat") if path.stat().st_size else ()

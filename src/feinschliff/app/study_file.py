"""Reads `STUDY.toml` into `core.study.Study`, and says everything that is wrong with it at once."""
import glob
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from feinschliff.app.study_problems import problems_of
from feinschliff.core.errors import BadStudy
from feinschliff.core.study import INGREDIENTS, Study, ingredients
from feinschliff.retrieval.documents import matching_files

Table = Mapping[str, object]  # a TOML table as tomllib gives it

REFERENCE = "docs/study-file.md lists every key; `feinschliff study init DATA` writes a commented file."


def load_study(path: Path) -> Study:
    """The study in `path`. Paths inside it stay as written: relative to the study file's folder.

    Raises BadStudy for a file that cannot be read or is not TOML (with the line), and, all in one message, for
    unknown keys, wrong values and files that it names but that are not there.
    """
    tables = _parse(_text(path), path)
    missing = [*_missing_files(tables, path.parent), *_unknown_contexts(tables)]
    try:
        study = Study.model_validate(tables)
    except ValidationError as error:
        raise _bad(path, [*problems_of(error), *missing]) from error
    if missing:
        raise _bad(path, missing)
    return study


def prompt_text(study: Study, root: Path) -> str | None:
    """The text of the study's [prompt], from the file or the key; None where the study has none."""
    if study.prompt is None or study.prompt.file is None:
        return study.prompt.system if study.prompt else None
    return _text(root / study.prompt.file).strip()


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError as error:
        raise BadStudy(f"{path}: there is no such file", hint=REFERENCE) from error
    except IsADirectoryError as error:
        raise BadStudy(f"{path} is a folder", hint="Name the TOML file in it.") from error
    except UnicodeDecodeError as error:
        raise BadStudy(f"{path} is not UTF-8 text (byte {error.start})", hint="Save it as UTF-8.") from error
    except OSError as error:
        raise BadStudy(f"{path} cannot be read ({error.strerror})", hint="Check its permissions.") from error


def _parse(text: str, path: Path) -> Table:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadStudy(
            f"{path} is not valid TOML: {error}",
            hint='Texts stand in quotes, lists in brackets: files = ["train.jsonl"].',
        ) from error


def _bad(path: Path, problems: Sequence[str]) -> BadStudy:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return BadStudy("\n".join([f"{path}: {count}", *(f"  {p}" for p in problems)]), hint=REFERENCE)


def _missing_files(tables: Table, root: Path) -> list[str]:
    """Checked on the raw tables, so that they are named beside whatever else is wrong."""
    named = [
        (f"[{table}] {key}", name)
        for table, key in (("data", "files"), ("split", "test_files"), ("prompt", "file"))
        for name in _names(tables, table, key)
    ]
    problems = [
        f"{place}: there is no file {name!r} in {root.resolve()}{_alike(name, root)}"
        for place, name in named
        if not (root / name).is_file()
    ]
    return problems + [
        f"[retrieval] documents: no file matches {pattern!r} in {root.resolve()}"
        for pattern in _names(tables, "retrieval", "documents")
        if not matching_files(pattern, root)
    ]


def _names(tables: Table, table: str, key: str) -> list[str]:
    """The strings under `[table] key`; nothing where the shape is wrong, which the types then report."""
    keys = tables.get(table)
    value = keys.get(key) if isinstance(keys, dict) else None
    values = value if isinstance(value, list) else [value]
    return [name for name in values if isinstance(name, str)]


def _alike(name: str, root: Path) -> str:
    """The usual slip is another ending or letter case; name the file that was probably meant."""
    wanted = Path(name)
    folder = (root / wanted).parent
    beside = sorted(folder.glob(f"{glob.escape(wanted.stem)}.*")) if folder.is_dir() else []
    beside += [p for p in folder.iterdir() if p.name.lower() == wanted.name.lower()] if folder.is_dir() else []
    return f"; did you mean {(wanted.parent / beside[0].name).as_posix()!r}?" if beside else ""


def _unknown_contexts(tables: Table) -> list[str]:
    return [
        f"[training] contexts: {part!r} in {context!r} is not one of plain, {', '.join(INGREDIENTS)}"
        for context in _names(tables, "training", "contexts")
        for part in ingredients(context)
        if context != "plain" and part not in INGREDIENTS
    ]

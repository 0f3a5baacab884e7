"""Reads the files of a retrieval corpus: Markdown, JSON, JSON Lines and plain text, in UTF-8."""
import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from feinschliff.core.errors import BadData

Kind = Literal["markdown", "json", "jsonl", "text"]
KINDS: dict[str, Kind] = {".md": "markdown", ".markdown": "markdown", ".json": "json", ".jsonl": "jsonl"}


@dataclass(frozen=True, slots=True)
class Document:
    """One file's text. `source` is its path as the study names it, with forward slashes."""

    source: str
    kind: Kind
    text: str


def matching_files(pattern: str, root: Path) -> list[str]:
    """Files that `pattern` (a path or glob, `**` for any depth) names, relative to `root`, sorted."""
    found = glob.glob(pattern, root_dir=root, recursive=True)
    return sorted(Path(name).as_posix() for name in found if (root / name).is_file())


def read_documents(patterns: Sequence[str], root: Path) -> tuple[Document, ...]:
    """Every file that the patterns name, each once, in the order of the patterns and then of the names.

    Raises BadData for a pattern that names no file, and for a file that cannot be read as UTF-8 text.
    """
    documents: dict[Path, Document] = {}
    for pattern in patterns:
        names = matching_files(pattern, root)
        if not names:
            raise BadData(
                f"retrieval documents: no file matches {pattern!r} in {root}",
                hint="Paths are relative to the study file; `**` matches folders of any depth.",
            )
        for name in names:
            documents.setdefault((root / name).resolve(), _read(root / name, name))
    return tuple(documents.values())


def _read(path: Path, name: str) -> Document:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadData(
            f"retrieval documents: {name} cannot be read ({os.strerror(error.errno or 0)})",
            hint="Check the file's permissions.",
        ) from error
    except UnicodeDecodeError as error:
        raise BadData(
            f"retrieval documents: {name} is not UTF-8 text (byte {error.start})",
            hint="Save it as UTF-8 text (`iconv -f … -t utf-8`), or name a narrower glob.",
        ) from error
    if "\0" in text:
        raise BadData(
            f"retrieval documents: {name} holds NUL bytes, so it is not text",
            hint="Name a narrower glob that leaves binary files out.",
        )
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return Document(source=name, kind=KINDS.get(path.suffix.lower(), "text"), text=text)

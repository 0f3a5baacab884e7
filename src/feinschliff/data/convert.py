"""Examples → chat JSONL, the one format that everything here and the hosted services read."""
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from feinschliff.core.chat import Example
from feinschliff.core.errors import FolderInUse
from feinschliff.data.files import write_atomically


def to_jsonl(examples: Iterable[Example], *, with_meta: bool = True) -> bytes:
    """Canonical bytes: the same examples in the same order always give the same file, UTF-8, LF.

    Keys keep their order, because the order inside a tool's schema is part of what the model is shown.
    `meta` is left out for hosted services, which refuse any further key.
    """
    return "".join(_line(example, with_meta) + "\n" for example in examples).encode()


def _line(example: Example, with_meta: bool) -> str:
    row: dict[str, object] = {"messages": [m.model_dump(exclude_none=True) for m in example.messages]}
    if example.tools:
        row["tools"] = example.tools
    meta = dict(example.meta)
    if "parallel_tool_calls" in meta:
        row["parallel_tool_calls"] = meta.pop("parallel_tool_calls")
    if with_meta and meta:
        row["meta"] = meta
    return json.dumps(row, ensure_ascii=False)


def sha256(examples: Iterable[Example]) -> str:
    """Of the canonical bytes, as hex: what "frozen" is checked against."""
    return hashlib.sha256(to_jsonl(examples)).hexdigest()


def write_jsonl(path: Path, examples: Iterable[Example], *, with_meta: bool = True, force: bool = False) -> None:
    """Atomic. Raises FolderInUse where the file exists and `force` is not set, BadData where it cannot be written."""
    if path.exists() and not force:
        raise FolderInUse(f"{path} exists already.", hint="Choose another name, or overwrite it with --force.")
    write_atomically(path, to_jsonl(examples, with_meta=with_meta))

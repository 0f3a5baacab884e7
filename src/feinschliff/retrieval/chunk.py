"""Cuts documents into chunks of at most `chunk_words` words, each readable on its own.

Markdown is cut at its headings and keeps the heading path as its first line; JSON is cut by entries and keeps
the path of keys; text is cut by paragraphs. Whatever is still too long is cut by words, with an overlap, so
that no sentence stands only across a border.
"""
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import assert_never

from feinschliff.core.errors import BadData
from feinschliff.retrieval.documents import Document

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

OVERLAP = 6  # neighbouring windows share 1/6 of their words
_HEADING = re.compile(r"(#{1,6})[ \t]+(.*?)[ \t]*#*\s*$")
_FENCE = re.compile(r"\s{0,3}(```|~~~)")
_PARAGRAPH = re.compile(r"\n[ \t]*\n+")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document. `source` names the file and the place in it ("schema.md > Nodes > City")."""

    text: str
    source: str


def chunk(document: Document, chunk_words: int) -> tuple[Chunk, ...]:
    """The document's chunks in reading order; none for an empty one. Raises BadData for broken JSON."""
    match document.kind:
        case "markdown":
            pieces = _markdown(document.text, chunk_words)
        case "json":
            pieces = _json(_parse(document.text, document.source, 1), (), chunk_words)
        case "jsonl":
            pieces = _json_lines(document, chunk_words)
        case "text":
            pieces = (((), piece) for piece in _paragraphs(document.text, chunk_words))
        case _:
            assert_never(document.kind)
    return tuple(
        Chunk(
            text="\n".join(filter(None, (" > ".join(path), body))), source=" > ".join((document.source, *path))
        )
        for path, body in pieces
    )


def windows(text: str, n_words: int) -> list[str]:
    """`text` in stretches of at most `n_words` words, layout kept; neighbours overlap by 1/6."""
    words = list(re.finditer(r"\S+", text))
    step = n_words - n_words // OVERLAP
    starts = range(0, max(len(words) - n_words // OVERLAP, 1), step)
    return [
        text[words[s].start() : words[min(s + n_words, len(words)) - 1].end()] for s in starts if s < len(words)
    ]


Trail = tuple[str, ...]  # headings or keys, outermost first


def _markdown(text: str, chunk_words: int) -> Iterator[tuple[Trail, str]]:
    path: list[tuple[int, str]] = []  # open headings: level, title
    sections: list[tuple[list[tuple[int, str]], str]] = []
    body: list[str] = []
    fenced = False
    for line in [*text.split("\n"), "# "]:  # the sentinel closes the last section
        fenced ^= _FENCE.match(line) is not None
        heading = None if fenced else _HEADING.match(line)
        if heading is None:
            body.append(line)
            continue
        sections.append((list(path), "\n".join(body).strip("\n")))
        level = len(heading[1])
        path = [*(p for p in path if p[0] < level), (level, heading[2])]
        body = []
    if fenced:  # a fence that is never closed swallowed the sentinel: its text is still a section
        sections.append((list(path), "\n".join(body[:-1]).strip("\n")))
    for i, (headings, content) in enumerate(sections):
        titles = tuple(title for _, title in headings)
        has_children = i + 1 < len(sections) and len(sections[i + 1][0]) > len(headings)
        if content.strip():
            yield from ((titles, piece) for piece in windows(content, chunk_words))
        elif titles and not has_children:
            yield titles, ""


def _paragraphs(text: str, chunk_words: int) -> Iterator[str]:
    """Neighbouring paragraphs together as long as they fit."""
    paragraphs = [p for p in _PARAGRAPH.split(text) if p.strip()]
    for group in _packed(paragraphs, chunk_words):
        yield from windows("\n\n".join(paragraphs[i] for i in group), chunk_words)


def _packed(parts: Sequence[str], chunk_words: int) -> Iterator[range]:
    """Runs of neighbouring parts that fit into one chunk together; a part too large stands alone."""
    first = n_words = 0
    for i, part in enumerate(parts):
        n = len(part.split())
        if i > first and n_words + n > chunk_words:
            yield range(first, i)
            first, n_words = i, 0
        n_words += n
    if parts:
        yield range(first, len(parts))


def _json(value: Json, path: Trail, chunk_words: int) -> Iterator[tuple[Trail, str]]:
    """The entries of the outermost object or array, a chunk each; one too large is cut into its own entries,
    of which as many stay together as fit.
    """
    for step, entry in _entries(value):
        text = _pretty(entry)
        here = (*path, step) if step else path
        if len(text.split()) <= chunk_words:
            yield here, text
        elif isinstance(entry, (dict, list)):
            yield from _json_parts(entry, here, chunk_words)
        else:
            yield from ((here, piece) for piece in windows(text, chunk_words))


def _json_parts(value: Json, path: Trail, chunk_words: int) -> Iterator[tuple[Trail, str]]:
    entries = _entries(value)
    texts = [f"{step}: {_pretty(entry)}" for step, entry in entries]
    for group in _packed(texts, chunk_words):
        step, entry = entries[group[0]]
        if len(group) == 1 and len(_pretty(entry).split()) > chunk_words:
            one: dict[str, Json] = {step: entry}
            yield from _json(one, path, chunk_words)
        else:
            yield path, "\n".join(texts[i] for i in group)


def _entries(value: Json) -> list[tuple[str, Json]]:
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list):
        return [(f"[{i}]", entry) for i, entry in enumerate(value)]
    return [("", value)]


def _pretty(value: Json) -> str:
    """Strings bare, everything else as JSON; one blank of indentation, since a model pays for each token."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)


def _json_lines(document: Document, chunk_words: int) -> Iterator[tuple[Trail, str]]:
    rows = [
        _parse(line, document.source, number)
        for number, line in enumerate(document.text.split("\n"), start=1)
        if line.strip()
    ]
    return _json(list(rows), (), chunk_words)


def _parse(text: str, source: str, first_line: int) -> Json:
    if not text.strip():
        return []
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise BadData(
            f"retrieval documents: {source}, line {line}: not valid JSON ({error.msg})",
            hint="Mend the file, or give it a .txt name to have it read as plain text.",
        ) from error
    except RecursionError as error:
        raise BadData(
            f"retrieval documents: {source} is nested too deeply",
            hint="Give it a .txt name to have it read as plain text.",
        ) from error

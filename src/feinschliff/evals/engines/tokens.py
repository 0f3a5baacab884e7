"""A small lexer for GQL, Cypher and SQL: enough to tell keywords from strings, names and comments.

The tokens joined give the text back, so whoever changes one token changes nothing else.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["space", "comment", "string", "quoted", "word", "number", "mark"]

# `--` is no comment here: in Cypher it is an edge, `(a)--(b)`; SQL passes its own flag.
_PATTERNS: tuple[tuple[Kind, str], ...] = (
    ("space", r"\s+"),
    ("comment", r"/\*.*?(?:\*/|\Z)|//[^\n]*"),
    ("string", r"'(?:\\.|''|[^'\\])*(?:'|\Z)|\"(?:\\.|\"\"|[^\"\\])*(?:\"|\Z)"),
    ("quoted", r"`(?:``|[^`])*(?:`|\Z)"),
    ("word", r"[^\W\d]\w*"),
    ("number", r"\d+(?:\.\d+)?"),
    ("mark", r"."),
)
_GQL = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _PATTERNS), re.DOTALL)
_SQL_COMMENT = r"/\*.*?(?:\*/|\Z)|--[^\n]*"
_SQL_STRING = r"'(?:''|[^'])*(?:'|\Z)|\"(?:\"\"|[^\"])*(?:\"|\Z)"
_SQL_OWN: dict[Kind, str] = {"comment": _SQL_COMMENT, "string": _SQL_STRING}
_SQL = re.compile("|".join(f"(?P<{k}>{_SQL_OWN.get(k, p)})" for k, p in _PATTERNS), re.DOTALL)

OPENING = {"(": ")", "[": "]", "{": "}"}
CLOSING = frozenset(OPENING.values())


@dataclass(frozen=True, slots=True)
class Token:
    kind: Kind
    text: str

    @property
    def word(self) -> str:
        """The text in capitals where this is an unquoted word, else ""."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def silent(self) -> bool:
        return self.kind in ("space", "comment")


def tokens(text: str, *, sql: bool = False) -> list[Token]:
    """`text` in tokens, every character in exactly one of them. `sql`: SQL's strings and comments, else GQL's and Cypher's."""
    found: list[Token] = []
    for match in (_SQL if sql else _GQL).finditer(text):
        kind = match.lastgroup
        for known, _ in _PATTERNS:
            if kind == known:
                found.append(Token(known, match.group()))
    return found


def joined(parts: Sequence[Token]) -> str:
    return "".join(t.text for t in parts)


def previous(parts: Sequence[Token], i: int) -> str:
    """The text of the last token before `i` that is neither space nor comment; "" at the start."""
    return next((t.text for t in reversed(parts[:i]) if not t.silent), "")


def following(parts: Sequence[Token], i: int) -> int:
    """The index of the next token after `i` that is neither space nor comment; `len(parts)` at the end."""
    return next((j for j in range(i + 1, len(parts)) if not parts[j].silent), len(parts))


def is_ordered(query: str, *, sql: bool) -> bool:
    """Whether the query has an ORDER BY of its own (one inside brackets orders a subquery or a window, not the result)."""
    depth = 0
    parts = [t for t in tokens(query, sql=sql) if not t.silent]
    for here, after in zip(parts, [*parts[1:], Token("space", " ")], strict=True):
        depth += (here.text in OPENING) - (here.text in CLOSING)
        if depth == 0 and here.word == "ORDER" and after.word == "BY":
            return True
    return False

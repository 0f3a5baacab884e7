"""From ISO GQL to the Cypher that ladybug runs, by moving tokens and never by guessing at text.

What is mapped (ISO/IEC 39075): a WHERE inside a node or edge pattern moves behind its MATCH clause; `FILTER` becomes
`WITH * WHERE`; `OFFSET` becomes `SKIP`; a doubled quote in a string becomes an escaped one. All else is left as it is,
for the engine to judge.
"""

import re
from dataclasses import dataclass, field

from feinschliff.evals.engines.tokens import CLOSING, OPENING, Token, following, joined, previous, tokens

# The words that end a MATCH clause's patterns when they stand at the clause's own bracket depth.
_CLAUSE_WORDS = (
    "MATCH OPTIONAL RETURN WITH UNWIND WHERE ORDER LIMIT SKIP OFFSET FILTER LET FOR CALL UNION EXCEPT INTERSECT "
    "OTHERWISE NEXT CREATE MERGE SET DELETE DETACH REMOVE INSERT FINISH KEEP"
)
_CLAUSES = frozenset(_CLAUSE_WORDS.split())
_SPACE = Token("space", " ")


def to_cypher(query: str) -> str:
    """`query` with its GQL forms replaced; a text without any comes back unchanged. Total: bad syntax passes through."""
    return joined(_moved([_mapped_string(t) for t in _mapped_words(tokens(query))]))


def _mapped_string(token: Token) -> Token:
    if token.kind != "string" or len(token.text) < 2:
        return token
    quote, inner = token.text[0], token.text[1:-1]
    escaped = re.sub(
        rf"\\.|{quote}{quote}", lambda m: m[0] if m[0][0] == "\\" else "\\" + quote, inner, flags=re.DOTALL
    )
    return Token("string", quote + escaped + token.text[-1])


def _mapped_words(parts: list[Token]) -> list[Token]:
    out: list[Token] = []
    for i, token in enumerate(parts):
        after = following(parts, i)
        next_token = parts[after] if after < len(parts) else _SPACE
        if token.word == "OFFSET" and next_token.kind == "number" and not _is_name(parts, i):
            out.append(Token("word", "SKIP"))
        elif token.word == "FILTER" and _starts_condition(next_token) and not _is_name(parts, i):
            out += [Token("word", "WITH"), _SPACE, Token("mark", "*")]
            out += [] if next_token.word == "WHERE" else [_SPACE, Token("word", "WHERE")]
        else:
            out.append(token)
    return out


def _starts_condition(token: Token) -> bool:
    return token.kind in ("word", "quoted", "string", "number") or token.text == "("


def _is_name(parts: list[Token], i: int) -> bool:
    """Whether a keyword at `i` is only a name there: a property, a label, a variable, an alias."""
    after = following(parts, i)
    next_text = parts[after].text if after < len(parts) else ""
    before = previous(parts, i)
    return (
        before in (".", ":", "|", "&", "!", "(", "[", ",", "=", "<", ">")
        or before.upper() in ("AS", "BY")
        or next_text == "."
    )


@dataclass
class _Clause:
    """A MATCH clause under way: at which bracket depth it stands, and the conditions lifted out of its patterns."""

    depth: int
    lifted: list[list[Token]] = field(default_factory=list)


def _moved(parts: list[Token]) -> list[Token]:
    """`parts` with each WHERE inside a pattern behind its MATCH clause, in nested queries too."""
    out: list[Token] = []
    clause: _Clause | None = None
    stack: list[_Clause | None] = []  # what the enclosing brackets were in
    i = 0
    while i < len(parts):
        token = parts[i]
        ends = token.text == ";" or (token.word in _CLAUSES and not _is_name(parts, i))
        if clause and len(stack) == clause.depth and ends:
            if token.word == "WHERE" and clause.lifted:
                end = _end_of_condition(parts, i)
                out += _where([*clause.lifted, _moved(_plain(parts[i + 1 : end]))])
                clause, i = None, end
                continue
            out, clause = _closed(out, clause, before=token), None
        if token.word == "MATCH" and clause is None and not _is_name(parts, i):
            clause = _Clause(depth=len(stack))
        elif token.text in OPENING:
            cut = _inline_where(parts, i) if clause and len(stack) == clause.depth else None
            if clause and cut:
                where, end = cut
                clause.lifted.append(_moved(_plain(parts[where + 1 : end])))
                out += [*_trimmed(parts[i:where]), parts[end]]
                i = end + 1
                continue
            stack.append(clause)
            clause = clause if token.text != "{" else None
        elif token.text in CLOSING and stack:
            if clause and clause.depth == len(stack):
                out = _closed(out, clause, before=token)
            clause = stack.pop()
        out.append(token)
        i += 1
    return _closed(out, clause) if clause else out


def _inline_where(parts: list[Token], start: int) -> tuple[int, int] | None:
    """Of the pattern element opening at `start`: where its WHERE stands and where its bracket closes.

    None for an element without WHERE, for an open bracket, and for a parenthesised path pattern `((a)-[b]->(c) WHERE …)`,
    whose condition holds for each repetition and cannot be moved.
    """
    if parts[start].text == "{":
        return None
    first = following(parts, start)
    if first < len(parts) and parts[first].text == "(":
        return None
    depth, where = 0, 0
    for i in range(start, len(parts)):
        depth += (parts[i].text in OPENING) - (parts[i].text in CLOSING)
        if depth == 1 and not where and parts[i].word == "WHERE" and not _is_name(parts, i):
            where = i
        if depth == 0:
            return (where, i) if where else None
    return None


def _end_of_condition(parts: list[Token], where: int) -> int:
    """The index behind the condition that the WHERE at `where` starts: the next clause, the closing bracket, or the end."""
    depth = 0
    for i in range(where + 1, len(parts)):
        if depth == 0 and (parts[i].text in CLOSING or parts[i].text == ";"):
            return i
        if (
            depth == 0
            and parts[i].word in _CLAUSES
            and not _is_name(parts, i)
            and not _is_starts_with(parts, i)
        ):
            return i
        depth += (parts[i].text in OPENING) - (parts[i].text in CLOSING)
    return len(parts)


def _is_starts_with(parts: list[Token], i: int) -> bool:
    """`a STARTS WITH b`: the WITH is an operator."""
    return parts[i].word == "WITH" and previous(parts, i).upper() in ("STARTS", "ENDS")


def _plain(parts: list[Token]) -> list[Token]:
    """Without comments: a line comment would swallow what is put behind it."""
    return _trimmed([_SPACE if t.kind == "comment" else t for t in parts])


def _trimmed(parts: list[Token]) -> list[Token]:
    start = next((i for i, t in enumerate(parts) if t.kind != "space"), len(parts))
    end = next((len(parts) - i for i, t in enumerate(reversed(parts)) if t.kind != "space"), 0)
    return parts[start:end] if start < end else []


def _where(conditions: list[list[Token]]) -> list[Token]:
    out = [Token("word", "WHERE"), _SPACE]
    for i, condition in enumerate(conditions):
        out += [_SPACE, Token("word", "AND"), _SPACE] if i else []
        out += condition if len(conditions) == 1 else [Token("mark", "("), *condition, Token("mark", ")")]
    return [*out, _SPACE]


def _closed(out: list[Token], clause: _Clause, *, before: Token | None = None) -> list[Token]:
    """`out` with the clause's lifted conditions put behind its patterns: ahead of the blanks and comments that follow
    these, and with a blank `before` a word that follows directly.
    """
    if not clause.lifted:
        return out
    end = len(out)
    while end and out[end - 1].silent:
        end -= 1
    glue = [_SPACE] if end == len(out) and before and before.word else []
    return [*out[:end], _SPACE, *_where(clause.lifted)[:-1], *out[end:], *glue]

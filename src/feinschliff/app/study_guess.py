"""Looks at a data file and proposes how to read it and how to grade its answers. Guesses, each said as one."""
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from feinschliff.core.chat import Example
from feinschliff.core.errors import BadData
from feinschliff.core.study import Format, Mapping
from feinschliff.data.read import SIGNATURES, read
from feinschliff.data.rows import Rows, read_rows

# Field names seen in public data sets, the likeliest first.
INPUTS = ("input", "question", "nl", "prompt", "query", "text", "utterance", "sentence", "instruction", "source", "goal", "mr")
OUTPUTS = (
    "output", "answer", "completion", "cypher", "sql", "gql", "sparql", "mr", "label", "category", "intent",
    "response", "target", "ref", "reference", "summary", "translation", "content",
)  # fmt: skip

QUERY = re.compile(r"\s*(optional\s+)?(match|with|unwind)\b.*\breturn\b", re.IGNORECASE | re.DOTALL)
SQL = re.compile(r"\s*(select|with)\b.*\bfrom\b", re.IGNORECASE | re.DOTALL)
MOST = 0.95  # of the answers must look alike before the file is taken to be of that kind
LABEL_WORDS = 6  # longer answers are texts, however few there are
MAX_LABELS = 300


@dataclass(frozen=True, slots=True)
class Proposal:
    """A grader: its type (also its name) and why it fits. `off` ones are written as comments: they need more from the user."""

    type: str
    reason: str
    options: str = ""  # as TOML, "" for none
    off: bool = False


@dataclass(frozen=True, slots=True)
class Guess:
    """How a file would be read, and what was seen in it."""

    format: Format
    mapping: Mapping | None
    fields: tuple[str, ...]
    n_examples: int
    n_errors: int
    graders: tuple[Proposal, ...]


def guess(path: Path) -> Guess:
    """Raises BadData for a file without a single example that can be read, or without two text fields."""
    rows = read_rows(path)
    known = next((name for name, keys in SIGNATURES.items() if set(keys) <= set(rows.field_names)), None)
    mapping = None if known else _mapping(rows, path)
    result = read(path, mapping=mapping)
    if not result.examples:
        first = result.errors[0].message if result.errors else "it has no rows"
        raise BadData(f"{path}: no example can be read: {first}", hint=f"feinschliff data check {path}")
    return Guess(
        format="mapped" if mapping else known or "auto",
        mapping=mapping,
        fields=tuple(name for name in rows.field_names if name not in (SIGNATURES[known] if known else ())),
        n_examples=len(result.examples),
        n_errors=len(result.errors),
        graders=propose(result.examples),
    )


def propose(examples: Sequence[Example]) -> tuple[Proposal, ...]:
    """Graders that fit the answers; the first one that is not `off` is the goal's."""
    answers = [example.answer for example in examples if example.answer.strip()]
    distinct = len({answer.strip() for answer in answers})
    if sum(bool(example.messages[-1].tool_calls) for example in examples) >= MOST * len(examples):
        return (Proposal("tool_call", "the answers are tool calls: the same functions with the same arguments"),)
    longest = max((len(answer.split()) for answer in answers), default=0)
    if _share(answers, _is_json) >= MOST:
        return (
            Proposal("json_fields", "the answers are JSON: the share of fields that are right"),
            Proposal("json_valid", "whether the answer parses at all"),
        )
    if _share(answers, lambda a: QUERY.match(a) is not None) >= MOST:
        return (
            Proposal("normalised", "the same text, blanks and letter case aside; strict for queries"),
            Proposal("gql_syntax", "whether the answer parses as ISO GQL"),
            Proposal("execution", "the same rows as the gold query", '{ engine = "ladybug", setup = "load.cypher" }', off=True),
        )
    if _share(answers, lambda a: SQL.match(a) is not None) >= MOST:
        return (
            Proposal("normalised", "the same text, blanks and letter case aside; strict for queries"),
            Proposal("execution", "the same rows as the gold query", '{ engine = "sqlite", setup = "load.sql" }', off=True),
        )
    if answers and longest <= LABEL_WORDS and distinct <= min(MAX_LABELS, max(2, len(answers) // 3)):
        return (Proposal("label", f"{distinct} different short answers: a classification"),)
    return (
        Proposal("chrf", "free text: overlap of character n-grams with the gold answer, 0 to 1"),
        Proposal("normalised", "the same text, blanks and letter case aside"),
    )


def _share(answers: Sequence[str], test: Callable[[str], bool]) -> float:
    return sum(test(answer) for answer in answers) / max(len(answers), 1)


def _is_json(answer: str) -> bool:
    try:
        return isinstance(json.loads(answer), (dict, list))
    except ValueError:
        return False


def _mapping(rows: Rows, path: Path) -> Mapping:
    """Known field names first; otherwise the text fields that vary most, the longer one as the question."""
    n_text = Counter(n for row in rows.rows for n, v in row.fields.items() if isinstance(v, str) and v.strip())
    texts = [name for name in rows.field_names if n_text[name] * 2 > len(rows.rows)]
    named_input = next((name for name in INPUTS if name in texts), None)
    named_output = next((name for name in OUTPUTS if name in rows.field_names and name != named_input), None)
    if len({*texts, named_output} - {None}) < 2:
        raise BadData(
            f"{path}: found no question and answer; the fields with text are: {', '.join(texts) or 'none'}",
            hint="Write the study file by hand: [data.mapping] takes Jinja2 templates over the row.",
        )
    by_length = sorted(texts, key=lambda name: _mean_length(rows, name), reverse=True)
    question = named_input or next(name for name in by_length if name != named_output)
    answer = named_output or next(name for name in by_length if name != question)
    return Mapping(input=question, output=answer)


def _mean_length(rows: Rows, name: str) -> float:
    lengths = [len(value) for row in rows.rows if isinstance(value := row.fields.get(name), str)]
    return sum(lengths) / max(len(lengths), 1)

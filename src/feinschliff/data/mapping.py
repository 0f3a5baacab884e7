"""Rows of any shape → Example, by the names of two fields or by Jinja2 templates over the row."""
import json
from collections.abc import Callable, Sequence

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from feinschliff.core.chat import Example, Message
from feinschliff.core.errors import BadData
from feinschliff.core.study import Mapping
from feinschliff.data.problems import Problems, did_you_mean
from feinschliff.data.rows import Row, Rows

ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)


def map_rows(rows: Rows, mapping: Mapping, problems: Problems) -> tuple[Example, ...]:
    """One example a row. A field that no row has is one finding for the file; one missing in a row is that row's.

    All fields of the row are kept in `meta`, the mapped ones too, so that a split can be grouped by any of them.
    Raises BadData for a template that is not Jinja2.
    """
    question = _column("input", mapping.input, mapping.input_template)
    answer = _column("output", mapping.output, mapping.output_template)
    known = rows.field_names
    unknown = [name for name in (*question.needs, *answer.needs) if name not in known]
    for name in dict.fromkeys(unknown):
        problems.error(0, "unknown_field", f"No row has a field {name!r}.", did_you_mean(name, known))
    if unknown:
        return ()
    start = (Message(role="system", content=mapping.system),) if mapping.system else ()
    examples: list[Example] = []
    for row in rows.rows:
        asked, answered = question.text(row, problems), answer.text(row, problems)
        if asked is not None and answered is not None:
            turns = (Message(role="user", content=asked), Message(role="assistant", content=answered))
            examples.append(Example(messages=start + turns, meta=row.fields, line=row.line))
    return tuple(examples)


class _Column:
    """Where one side of the chat comes from. `needs`: the fields that must exist."""

    def __init__(self, needs: Sequence[str], text: Callable[[Row, Problems], str | None]) -> None:
        self.needs = needs
        self.text = text


def _column(side: str, field: str | None, template: str | None) -> _Column:
    if template is not None:
        return _templated(side, template)
    if field is None:
        raise BadData(f"The mapping names no {side}.", hint=f"Give `{side}` (a field) or `{side}_template` (Jinja2).")
    return _Column((field,), lambda row, problems: _field(row, field, problems))


def _field(row: Row, field: str, problems: Problems) -> str | None:
    value = row.fields.get(field)
    if value is None:
        problems.error(
            row.line, "missing_field", f"The row has no value in the field {field!r}.", f"It has: {', '.join(row.fields)}."
        )
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _templated(side: str, source: str) -> _Column:
    try:
        needs = meta.find_undeclared_variables(ENVIRONMENT.parse(source)) - {"row"} - set(ENVIRONMENT.globals)
        template = ENVIRONMENT.from_string(source)
    except TemplateSyntaxError as error:
        raise BadData(
            f"The {side} template is not Jinja2: line {error.lineno}: {error.message}.",
            hint="Fields are written {{ name }}, or {{ row['any name'] }}.",
        ) from None
    return _Column(sorted(needs), lambda row, problems: _render(side, template, row, problems))


def _render(side: str, template: Template, row: Row, problems: Problems) -> str | None:
    try:
        return template.render({**row.fields, "row": row.fields})
    except TemplateError as error:
        reason = error.message or type(error).__name__
    except Exception as error:  # noqa: BLE001 - a user's template can raise anything that its expressions do
        reason = f"{type(error).__name__}: {error}"
    problems.error(
        row.line, "template_error", f"The {side} template fails on this row: {reason}.",
        f"The row has: {', '.join(row.fields)}.",
    )
    return None

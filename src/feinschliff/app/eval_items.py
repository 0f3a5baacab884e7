"""The items of a run: read from the request or from a file, one a line, and held against the evaluation's schema."""
import json
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from pydantic import ValidationError

from feinschliff.app import files
from feinschliff.app.service import Service
from feinschliff.core.eval_runs import Elsewhere, FileContent, FileId, Line, Source
from feinschliff.core.service import Caller
from feinschliff.core.service_errors import RequestError

PLACE = "data_source.source"


def lines(service: Service, caller: Caller, source: Source) -> Iterator[Line]:
    """Raises NotFound for the file, CorruptBlob, and RequestError for a line that is none or a source that is not here."""
    match source:
        case FileContent():
            yield from source.content
        case FileId():
            _, path = files.file_content(service, caller, source.id)
            with path.open("rb") as file:
                for number, text in enumerate(file, start=1):
                    if stripped := text.removeprefix(files.BOM).strip():
                        yield _line(stripped, number)
        case Elsewhere():
            raise RequestError(
                f"There are no {source.type.replace('_', ' ')} here: answers are not kept.", param=f"{PLACE}.type", code="unsupported_data_source",
                hint="Give the items as file_id or file_content.",
            )  # fmt: skip


def count_checked(service: Service, caller: Caller, source: Source, schema: Mapping[str, Any], most: int) -> int:
    """How many items there are. Raises RequestError for the first that does not fit the schema, for none, and for too many."""
    validator, n = Draft202012Validator(schema), 0
    for n, line in enumerate(lines(service, caller, source), start=1):
        problem = next(iter(validator.iter_errors(line.item)), None)
        if problem is not None:
            raise RequestError(f"Item {n} does not fit the evaluation's item_schema: {problem.json_path}: {problem.message[:300]}.", param=PLACE)
        if n > most:
            raise RequestError(f"There are more than {most:,} items.", param=PLACE, hint="Split them over several runs.")
    if n == 0:
        raise RequestError("There are no items.", param=PLACE, hint='Write one {"item": {…}} a line.')
    return n


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises RequestError for what is no JSON Schema."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise RequestError(f"item_schema is no JSON Schema: {error.message[:300]}.", param="data_source_config.item_schema") from None


def _line(text: bytes, number: int) -> Line:
    try:
        return Line.model_validate(json.loads(text))
    except (ValueError, RecursionError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "it is no JSON"
        raise RequestError(f'Line {number} is not of the form {{"item": {{…}}}}: {why}.', param=PLACE) from None

"""/v1/files."""
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from feinschliff.api.access import Reader, ServiceOf, Writer
from feinschliff.api.multipart import Form, read_form, receiving
from feinschliff.api.wire import After, ExpiresAfter, ListingWithEnds, Shown, Sparse, cursor, with_ends
from feinschliff.app import files as use
from feinschliff.core.service import Purpose
from feinschliff.core.service_errors import RequestError
from feinschliff.store.tables import FileRow

router = APIRouter(tags=["files"])
PIECE = 1 << 18  # bytes sent at a time
_PURPOSE: TypeAdapter[Purpose] = TypeAdapter(Purpose)
STAYS_IN = "Ours: regions, or locations of Azure, that the data may not leave. Without it, the data may go anywhere."
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": _PURPOSE.json_schema(),
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2592000},
                        "stays_in[]": {"type": "array", "items": {"type": "string"}, "description": STAYS_IN},
                    },
                }
            }
        },
    }
}


class FileOut(Sparse):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: str
    expires_at: int | None
    status_details: str | None
    stays_in: list[str] | None  # ours

    @classmethod
    def of(cls, row: FileRow) -> "FileOut":
        return cls(
            id=row.id, bytes=row.bytes, created_at=row.created_at, filename=row.filename, purpose=row.purpose,
            status=row.status, expires_at=row.expires_at, status_details=row.status_details, stays_in=row.stays_in,
        )  # fmt: skip


class FileDeleted(Shown):
    id: str
    object: Literal["file"] = "file"
    deleted: bool


# The specification lets absent times and details be left out, but not be null.
@router.post("/files", openapi_extra=FORM, response_model_exclude_none=True)
async def create_file(request: Request, service: ServiceOf, caller: Writer) -> FileOut:
    """Upload a file. A training file is checked in the background: its status tells when, and what was found."""
    with receiving(service.blobs) as incoming:
        form = await read_form(request, incoming, file_field="file", most_bytes=service.settings.limits.file_bytes)
        new = _new_file(form)
        return FileOut.of(await run_in_threadpool(use.add_file, service, caller, incoming, new))


@router.get("/files", response_model_exclude_none=True)
def list_files(
    service: ServiceOf, caller: Reader, purpose: str | None = None, after: After = None,
    limit: int = 10_000, order: str = "desc",
) -> ListingWithEnds[FileOut]:
    page = use.list_files(service, caller, cursor(limit, after, order, most=10_000), purpose)
    return with_ends([FileOut.of(row) for row in page.rows], has_more=page.has_more, nobody="")


@router.get("/files/{file_id}", response_model_exclude_none=True)
def retrieve_file(file_id: str, service: ServiceOf, caller: Reader) -> FileOut:
    return FileOut.of(use.get_file(service, caller, file_id))


@router.delete("/files/{file_id}")
def delete_file(file_id: str, service: ServiceOf, caller: Writer) -> FileDeleted:
    use.delete_file(service, caller, file_id)
    return FileDeleted(id=file_id, deleted=True)


@router.get("/files/{file_id}/content", response_class=StreamingResponse)
def file_content(file_id: str, service: ServiceOf, caller: Reader) -> StreamingResponse:
    row, path = use.file_content(service, caller, file_id)
    headers = {
        "content-length": str(row.bytes),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(row.filename)}",
    }
    return StreamingResponse(_pieces(path), media_type="application/octet-stream", headers=headers)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def _new_file(form: Form) -> use.NewFile:
    """Of a name that is a path, as the command line of `openai` sends it, only the last part counts (RFC 7578, section 4.2)."""
    name = re.split(r"[/\\]", form.filename or "")[-1]
    return use.NewFile(name, _purpose(form.need("purpose")), _life_s(form), _stays_in(form))


def _purpose(text: str) -> Purpose:
    try:
        return _PURPOSE.validate_python(text)
    except ValidationError:
        known = "fine-tune, evals, batch, user_data, vision, assistants"
        raise RequestError(f"{text!r} is not one of the purposes {known}.", param="purpose") from None


def _stays_in(form: Form) -> tuple[str, ...]:
    """As a list, or with commas between."""
    alone = form.fields.get("stays_in", "").split(",")
    return tuple(name.strip() for name in (*alone, *form.lists.get("stays_in", ())) if name.strip())


def _life_s(form: Form) -> int | None:
    given = {key.removeprefix("expires_after"): value for key, value in form.fields.items() if key.startswith("expires_after")}
    if not given:
        return None
    try:
        return ExpiresAfter.model_validate({k.strip("[]"): v for k, v in given.items()}).life_s()
    except ValidationError:
        raise RequestError(
            "expires_after needs anchor=created_at and seconds, a whole number.", param="expires_after"
        ) from None

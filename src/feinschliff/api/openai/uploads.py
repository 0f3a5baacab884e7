"""/v1/uploads: large files in parts."""
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from feinschliff.api.access import ServiceOf, Writer
from feinschliff.api.multipart import read_form, receiving
from feinschliff.api.openai.files import FileOut
from feinschliff.api.wire import Body, ExpiresAfter, Shown, Sparse
from feinschliff.app import uploads as use
from feinschliff.core.service import Purpose
from feinschliff.store.tables import FileRow, PartRow, UploadRow

router = APIRouter(tags=["uploads"])
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["data"], "properties": {"data": {"type": "string", "format": "binary"}}}
            }
        },
    }
}


class UploadIn(Body):
    filename: str
    purpose: Purpose
    bytes: int = Field(ge=0)
    mime_type: str = Field(max_length=255)
    expires_after: ExpiresAfter | None = None
    stays_in: tuple[str, ...] = ()  # ours


class CompleteIn(Body):
    part_ids: list[str]
    md5: str | None = None


class UploadOut(Sparse):
    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: str
    file: FileOut | None

    @classmethod
    def of(cls, row: UploadRow, file: FileRow | None = None) -> "UploadOut":
        return cls(
            id=row.id, bytes=row.bytes, created_at=row.created_at, expires_at=row.expires_at, filename=row.filename,
            purpose=row.purpose, status=row.status, file=None if file is None else FileOut.of(file),
        )  # fmt: skip


class PartOut(Shown):
    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str

    @classmethod
    def of(cls, row: PartRow) -> "PartOut":
        return cls(id=row.id, created_at=row.created_at, upload_id=row.upload_id)


@router.post("/uploads", response_model_exclude_none=True)
def create_upload(body: UploadIn, service: ServiceOf, caller: Writer) -> UploadOut:
    life_s = body.expires_after.life_s() if body.expires_after else None
    new = use.NewUpload(body.filename, body.purpose, body.mime_type, body.bytes, life_s, body.stays_in)
    return UploadOut.of(use.create_upload(service, caller, new))


@router.post("/uploads/{upload_id}/parts", openapi_extra=FORM)
async def add_part(upload_id: str, request: Request, service: ServiceOf, caller: Writer) -> PartOut:
    await run_in_threadpool(use.check_pending, service, caller, upload_id)
    with receiving(service.blobs) as incoming:
        await read_form(request, incoming, file_field="data", most_bytes=service.settings.limits.part_bytes)
        return PartOut.of(await run_in_threadpool(use.add_part, service, caller, upload_id, incoming))


@router.post("/uploads/{upload_id}/complete", response_model_exclude_none=True)
def complete_upload(upload_id: str, body: CompleteIn, service: ServiceOf, caller: Writer) -> UploadOut:
    upload, file = use.complete_upload(service, caller, upload_id, body.part_ids, body.md5)
    return UploadOut.of(upload, file)


@router.post("/uploads/{upload_id}/cancel", response_model_exclude_none=True)
def cancel_upload(upload_id: str, service: ServiceOf, caller: Writer) -> UploadOut:
    return UploadOut.of(use.cancel_upload(service, caller, upload_id))

"""/openai/files and /openai/uploads: Azure's words for the same files."""
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from feinschliff.api.access import Reader, ServiceOf, Writer
from feinschliff.api.azure.dated import VERSIONED, made
from feinschliff.api.openai import files, uploads
from feinschliff.api.openai.files import FileDeleted, FileOut
from feinschliff.api.wire import After, Body, ListingWithEnds
from feinschliff.app import file_import as use
from feinschliff.app.files import NewFile
from feinschliff.core.service import FileStatus, Purpose

router = APIRouter(prefix="/openai", tags=["azure"], dependencies=[VERSIONED])
router.include_router(uploads.router)
WAITS = "pending"  # for its check; OpenAI's word is "uploaded"


class ImportIn(Body):
    content_url: str
    filename: str
    purpose: Purpose
    stays_in: tuple[str, ...] = ()  # ours


@router.post("/files", status_code=201, openapi_extra=files.FORM, response_model_exclude_none=True)
async def create_file(request: Request, response: Response, service: ServiceOf, caller: Writer) -> FileOut:
    """Upload a file. A training file can be used when its status is `processed`."""
    file = _shown(await files.create_file(request, service, caller))
    return made(file, request, response)


@router.post("/files/import", status_code=201, response_model_exclude_none=True)
def import_file(body: ImportIn, request: Request, response: Response, service: ServiceOf, caller: Writer) -> FileOut:
    """Fetch a file, from a host that the operator allows. The answer comes when it is there."""
    row = use.import_file(service, caller, body.content_url, NewFile(body.filename, body.purpose, stays_in=body.stays_in))
    return made(_shown(FileOut.of(row)), request, response, instead_of="/import")


@router.get("/files", response_model_exclude_none=True)
def list_files(
    service: ServiceOf, caller: Reader, purpose: str | None = None, after: After = None, limit: int = 10_000, order: str = "desc"
) -> ListingWithEnds[FileOut]:
    page = files.list_files(service, caller, purpose, after, limit, order)
    return page.model_copy(update={"data": [_shown(file) for file in page.data]})


@router.get("/files/{file_id}", response_model_exclude_none=True)
def retrieve_file(file_id: str, service: ServiceOf, caller: Reader) -> FileOut:
    return _shown(files.retrieve_file(file_id, service, caller))


@router.delete("/files/{file_id}")
def delete_file(file_id: str, service: ServiceOf, caller: Writer) -> FileDeleted:
    return files.delete_file(file_id, service, caller)


@router.get("/files/{file_id}/content", response_class=StreamingResponse)
def file_content(file_id: str, service: ServiceOf, caller: Reader) -> StreamingResponse:
    return files.file_content(file_id, service, caller)


def _shown(file: FileOut) -> FileOut:
    return file.model_copy(update={"status": WAITS}) if file.status == FileStatus.UPLOADED else file

"""Files that arrive in parts, in parallel and in any order."""
from collections.abc import Sequence
from dataclasses import dataclass

from feinschliff.app.files import NewFile, check_first_line, check_name, drop_unused, keep
from feinschliff.app.residency import check_mark
from feinschliff.app.service import Service, new_id
from feinschliff.core.service import Caller, Purpose, UploadStatus
from feinschliff.core.service_errors import Conflict, NotFound, RequestError, TooLarge
from feinschliff.store import audit, files
from feinschliff.store.blobs import Incoming
from feinschliff.store.database import Session
from feinschliff.store.tables import FileRow, PartRow, UploadRow

PIECE = 1 << 20  # bytes copied at a time


@dataclass(frozen=True, slots=True)
class NewUpload:
    filename: str
    purpose: Purpose
    mime_type: str
    bytes: int  # in all
    lives_s: int | None  # of the file that it becomes
    stays_in: tuple[str, ...] = ()  # that file


def create_upload(service: Service, caller: Caller, new: NewUpload) -> UploadRow:
    """Raises TooLarge, RequestError."""
    limits = service.settings.limits
    if new.bytes > limits.upload_bytes:
        raise TooLarge(f"{new.bytes:,} bytes are more than an upload may have ({limits.upload_bytes:,}).", param="bytes")
    check_name(new.filename, new.purpose)
    check_mark(service, new.stays_in)
    now = service.clock()
    with service.database.write() as db:
        row = UploadRow(
            id=new_id("upload_"), project_id=caller.project, filename=new.filename, purpose=new.purpose,
            mime_type=new.mime_type, bytes=new.bytes, status=UploadStatus.PENDING, created_at=now,
            expires_at=now + limits.upload_lives_s, file_lives_s=new.lives_s, stays_in=list(new.stays_in) or None,
        )  # fmt: skip
        db.add(row)
        audit.record(db, caller, "upload.create", row.id, now)
    return row


def check_pending(service: Service, caller: Caller, upload_id: str) -> None:
    """Before bytes are taken in: raises NotFound, Conflict."""
    with service.database.read() as db:
        _pending(service, db, caller, upload_id)


def add_part(service: Service, caller: Caller, upload_id: str, incoming: Incoming) -> PartRow:
    """Raises NotFound, Conflict where the upload takes no more parts."""
    incoming.finish()
    with service.blobs.locked(), service.database.write() as db:
        _pending(service, db, caller, upload_id)
        service.blobs.keep(incoming)
        part = PartRow(
            id=new_id("part_"), upload_id=upload_id, bytes=incoming.size, sha256=incoming.sha256, created_at=service.clock()
        )
        db.add(part)
    return part


def complete_upload(
    service: Service, caller: Caller, upload_id: str, part_ids: Sequence[str], md5: str | None
) -> tuple[UploadRow, FileRow]:
    """The parts in the given order become a file. Raises NotFound, Conflict, and RequestError where sizes or checksums differ."""
    with service.database.read() as db:
        upload = _pending(service, db, caller, upload_id)
        parts = _in_order(files.parts_of(db, upload_id), part_ids)
    total = sum(part.bytes for part in parts)
    if total != upload.bytes:
        raise RequestError(
            f"The parts have {total:,} bytes in all; the upload was declared with {upload.bytes:,}.", param="part_ids",
            hint="Add the missing parts, or create an upload of the right size.",
        )  # fmt: skip
    with service.blobs.incoming() as whole:
        for part in parts:
            _append(service, part, whole)
        if md5 is not None and md5.lower() != whole.md5:
            raise RequestError(f"The bytes have the MD5 {whole.md5}; {md5} was expected.", param="md5", hint="Send the parts again.")
        return _become_file(service, caller, upload_id, whole)


def cancel_upload(service: Service, caller: Caller, upload_id: str) -> UploadRow:
    """Raises NotFound, Conflict."""
    with service.database.write() as db:
        upload = _pending(service, db, caller, upload_id)
        upload.status = UploadStatus.CANCELLED
        freed = [part.sha256 for part in files.parts_of(db, upload_id)]
        files.drop_parts(db, upload_id)
        audit.record(db, caller, "upload.cancel", upload_id, service.clock())
    drop_unused(service, freed)
    return upload


def _become_file(service: Service, caller: Caller, upload_id: str, whole: Incoming) -> tuple[UploadRow, FileRow]:
    whole.finish()
    with service.blobs.locked(), service.database.write() as db:
        upload = _pending(service, db, caller, upload_id)  # once more: it may have been cancelled or completed meanwhile
        new = NewFile(upload.filename, _purpose(upload), upload.file_lives_s, tuple(upload.stays_in or ()))
        if new.purpose == "fine-tune":
            check_first_line(whole.head, whole=whole.size <= len(whole.head))
        file = keep(service, db, caller, whole, new)
        upload.status, upload.file_id = UploadStatus.COMPLETED, file.id
        freed = [part.sha256 for part in files.parts_of(db, upload_id)]
        files.drop_parts(db, upload_id)
        audit.record(db, caller, "upload.complete", upload_id, service.clock())
    drop_unused(service, freed)
    service.work.ring()
    return upload, file


def _purpose(upload: UploadRow) -> Purpose:
    known: dict[str, Purpose] = {p: p for p in ("fine-tune", "evals", "batch", "user_data", "vision", "assistants")}
    return known[upload.purpose]


def _append(service: Service, part: PartRow, whole: Incoming) -> None:
    with service.blobs.checked(part.sha256).open("rb") as file:
        while piece := file.read(PIECE):
            whole.write(piece)


def _in_order(parts: Sequence[PartRow], part_ids: Sequence[str]) -> list[PartRow]:
    by_id = {part.id: part for part in parts}
    unknown = [part_id for part_id in part_ids if part_id not in by_id]
    if unknown:
        raise RequestError(f"The upload has no part {unknown[0]!r}.", param="part_ids")
    if len(set(part_ids)) != len(part_ids):
        raise RequestError("A part is named twice.", param="part_ids")
    return [by_id[part_id] for part_id in part_ids]


def _pending(service: Service, db: Session, caller: Caller, upload_id: str) -> UploadRow:
    upload = files.find_upload(db, caller.project, upload_id)
    if upload is None:
        raise NotFound(f"No such Upload object: {upload_id}", param="upload_id")
    expired = upload.status == UploadStatus.PENDING and upload.expires_at <= service.clock()
    status = UploadStatus.EXPIRED if expired else UploadStatus(upload.status)
    if status is not UploadStatus.PENDING:
        raise Conflict(f"The upload is {status}; only a pending one can be changed.", hint="Create a new upload.")
    return upload

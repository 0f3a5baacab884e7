"""Files: added, listed, read, deleted, expired."""
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from feinschliff.app.residency import check_mark
from feinschliff.app.service import Service, new_id
from feinschliff.core.service import Caller, FileStatus, StoredPurpose
from feinschliff.core.service_errors import CorruptBlob, NotFound, RequestError
from feinschliff.store import audit, files
from feinschliff.store.blobs import Incoming
from feinschliff.store.database import Session
from feinschliff.store.paging import Cursor, Page
from feinschliff.store.tables import FileRow

BOM = b"\xef\xbb\xbf"
SHORTEST_LIFE_S, LONGEST_LIFE_S = 3600, 2_592_000
ONE_A_LINE: frozenset[StoredPurpose] = frozenset({"fine-tune", "evals", "batch"})


@dataclass(frozen=True, slots=True)
class NewFile:
    """What a client says of a file. `lives_s`: it is deleted so many seconds after its making; `stays_in`: see `app.residency`."""

    filename: str
    purpose: StoredPurpose
    lives_s: int | None = None
    stays_in: tuple[str, ...] = ()


def add_file(service: Service, caller: Caller, incoming: Incoming, new: NewFile) -> FileRow:
    """Keep what has arrived. Raises RequestError for a training file that is plainly no JSONL."""
    check_name(new.filename, new.purpose)
    check_mark(service, new.stays_in)
    if new.purpose in ONE_A_LINE:
        check_first_line(incoming.head, whole=incoming.size <= len(incoming.head))
    incoming.finish()
    with service.blobs.locked(), service.database.write() as db:
        row = keep(service, db, caller, incoming, new)
        audit.record(db, caller, "file.create", row.id, service.clock())
    service.work.ring()
    return row


def keep(service: Service, db: Session, caller: Caller, incoming: Incoming, new: NewFile) -> FileRow:
    """The blob and its row; within the blobs' lock and the caller's transaction."""
    now = service.clock()
    service.blobs.keep(incoming)
    row = FileRow(
        id=new_id("file-"), project_id=caller.project, filename=new.filename, purpose=new.purpose, bytes=incoming.size,
        sha256=incoming.sha256, created_at=now, expires_at=None if new.lives_s is None else now + new.lives_s,
        stays_in=list(new.stays_in) or None, status=FileStatus.UPLOADED if new.purpose == "fine-tune" else FileStatus.PROCESSED,
    )  # fmt: skip
    db.add(row)
    return row


def get_file(service: Service, caller: Caller, file_id: str) -> FileRow:
    """Raises NotFound."""
    with service.database.read() as db:
        return existing(service, db, caller, file_id)


def existing(service: Service, db: Session, caller: Caller, file_id: str, *, param: str = "id") -> FileRow:
    """Raises NotFound, naming the parameter that held the id."""
    row = files.find_file(db, caller.project, file_id, service.clock())
    if row is None:
        raise NotFound(f"No such File object: {file_id}", param=param, hint="List the project's files with GET /v1/files.")
    return row


def check_processed(service: Service, caller: Caller, file_ids: Mapping[str, str]) -> None:
    """Azure's rule for a new job: `file_ids`, by the parameter that names each, have been checked. Raises NotFound, RequestError."""
    with service.database.read() as db:
        for param, file_id in file_ids.items():
            if existing(service, db, caller, file_id, param=param).status == FileStatus.UPLOADED:
                raise RequestError(
                    f"The file {file_id} is still being checked: the reference must point to a completed file import.", param=param,
                    code="invalidPayload", hint="Wait until its status is 'processed'.",
                )  # fmt: skip


def list_files(service: Service, caller: Caller, cursor: Cursor, purpose: str | None) -> Page[FileRow]:
    with service.database.read() as db:
        return files.list_files(db, caller.project, cursor, service.clock(), purpose)


def file_content(service: Service, caller: Caller, file_id: str) -> tuple[FileRow, Path]:
    """The file and where its bytes are, verified. Raises NotFound, CorruptBlob."""
    row = get_file(service, caller, file_id)
    return row, content_of(service, row)


def content_of(service: Service, row: FileRow) -> Path:
    """Where its bytes are, verified. Raises CorruptBlob, naming the file."""
    try:
        return service.blobs.checked(row.sha256)
    except CorruptBlob as error:
        raise CorruptBlob(f"The file {row.id} ({row.filename}) is damaged: {error.message}", hint=error.hint) from error


def delete_file(service: Service, caller: Caller, file_id: str) -> None:
    """Raises NotFound. Bytes that no other file shares go at once."""
    with service.database.write() as db:
        row = existing(service, db, caller, file_id)
        db.delete(row)
        audit.record(db, caller, "file.delete", file_id, service.clock())
    drop_unused(service, [row.sha256])


def drop_unused(service: Service, hashes: Iterable[str]) -> None:
    """Remove the bytes to which no row refers any more."""
    candidates = list(hashes)
    with service.blobs.locked():
        with service.database.read() as db:
            used = files.used_blobs(db, candidates)
        for sha256 in set(candidates) - used:
            service.blobs.drop(sha256)


def check_name(filename: str, purpose: StoredPurpose) -> None:
    if not filename or len(filename) > 512 or "/" in filename or "\0" in filename:
        raise RequestError("The file's name is missing, longer than 512 characters, or holds a slash.", param="file")
    if purpose == "fine-tune" and not filename.lower().endswith(".jsonl"):
        raise RequestError(
            f"Invalid file format for Fine-Tuning API. {filename!r} does not end with .jsonl.", param="file",
            hint="`feinschliff data convert FILE NEW.jsonl` makes JSONL of CSV, JSON and Parquet.",
        )  # fmt: skip


def check_life(lives_s: int | None) -> None:
    if lives_s is not None and not SHORTEST_LIFE_S <= lives_s <= LONGEST_LIFE_S:
        raise RequestError(
            f"expires_after[seconds] is {lives_s}; it must be between {SHORTEST_LIFE_S} and {LONGEST_LIFE_S}.", param="expires_after"
        )


def check_first_line(head: bytes, *, whole: bool) -> None:
    """A file that is plainly no JSONL is refused at once. `whole`: `head` is the whole file, not its beginning."""
    text = head.removeprefix(BOM).lstrip()
    if not text and whole:
        raise RequestError("The file is empty.", param="file", hint="Write one example a line.")
    line, end, _ = text.partition(b"\n")
    if (end or whole) and _is_object(line):
        return
    if not end and not whole and line.startswith(b"{"):
        return  # too long to be seen whole here; the check in the background sees it
    start = line[:20].decode("utf-8", errors="replace")
    raise RequestError(
        "Expected file to have JSONL format, where every line is a JSON dictionary. "
        f'Line 1 is not a dictionary (HINT: line starts with: "{start}").',
        param="file", hint="`feinschliff data convert FILE NEW.jsonl` makes JSONL of CSV, JSON and Parquet.",
    )  # fmt: skip


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False



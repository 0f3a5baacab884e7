"""Training files are checked in the background: in a child process, one after the other, oldest first."""
import subprocess
from pathlib import Path

from pydantic import ValidationError

from feinschliff.app import files as files_use
from feinschliff.app.service import Service
from feinschliff.catalog.workload import FileSizes
from feinschliff.compute import process
from feinschliff.core.errors import ProgramFailed
from feinschliff.core.findings import FileCheck, FindingGroup
from feinschliff.core.service import FileStatus, ProjectId
from feinschliff.core.service_errors import NO_ROOM_EXIT, NO_ROOM_HINT, CorruptBlob, NoRoom
from feinschliff.store import files
from feinschliff.store.tables import FileRow

LONGEST_S = 1800.0  # a check that takes longer is given up


def check_next(service: Service) -> bool:
    """Check the training file that has waited longest; False where none waits. A kill in between leaves it waiting."""
    with service.database.read() as db:
        waiting = files.first_unchecked(db)
    if waiting is None:
        return False
    status, details, sizes = _judge(service, waiting)
    with service.database.write() as db:
        row = files.find_file(db, ProjectId(waiting.project_id), waiting.id, service.clock())
        if row is not None:  # else it was deleted meanwhile
            row.status, row.status_details = status, details
            row.sizes = None if sizes is None else sizes.model_dump()
    service.work.ring()  # jobs wait for their files
    return True


def run_check(service: Service, path: Path, model: Path | None = None, out: Path | None = None) -> FileCheck:
    """See `feinschliff.data.__main__`. Raises NoRoom, and ProgramFailed where the checking program died, for lack of memory say."""
    options = [("--model", model), ("--out", out)]
    arguments = [str(path), *(text for name, value in options if value is not None for text in (name, str(value)))]
    log = service.settings.data_dir / "logs" / "file-check.log"
    child = process.start("feinschliff.data", arguments, log, talk=True)
    try:
        output, _ = child.communicate(timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        process.stop(child, grace_s=0)
        raise ProgramFailed(f"The check of the file took longer than {LONGEST_S:.0f} s.", hint="Cut the file into smaller ones.") from None
    if child.returncode == NO_ROOM_EXIT:
        raise NoRoom("There is no room left on the disk for the job's examples.", hint=NO_ROOM_HINT)
    try:
        return FileCheck.model_validate_json(output)
    except ValidationError:
        why = "it was killed, probably for lack of memory" if child.returncode < 0 else process.last_lines(log)
        raise ProgramFailed(f"The file could not be checked: {why}.", hint="Cut the file into smaller ones.") from None


def describe(check: FileCheck) -> str:
    """Line, place and remedy of every kind of finding, for a person."""
    heading = f"{_count(check.n_errors, 'error')} and {_count(check.n_warnings, 'warning')} in {_count(check.n_examples, 'example')}."
    return "\n".join([heading, *map(_group, check.groups)])


def _group(group: FindingGroup) -> str:
    shown = "" if group.n <= len(group.first) else f", the first {len(group.first)} of {group.n}"
    lines = [f"{group.level} {group.code}{shown}:"]
    lines += [f"  {f'line {f.line}' if f.line else 'file'}: {f.message} {f.hint}".rstrip() for f in group.first]
    return "\n".join(lines)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def _judge(service: Service, file: FileRow) -> tuple[FileStatus, str | None, FileSizes | None]:
    try:
        check = run_check(service, files_use.content_of(service, file))
    except (CorruptBlob, ProgramFailed) as error:
        return FileStatus.ERROR, f"{error.message} {error.hint}".strip(), None
    status = FileStatus.ERROR if check.n_errors else FileStatus.PROCESSED
    sizes = FileSizes(n_examples=check.n_examples, characters=check.n_characters, longest=check.longest_characters)
    return status, describe(check) if check.groups else None, sizes

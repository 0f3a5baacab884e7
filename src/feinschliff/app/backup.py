"""A copy of everything that the service keeps, made while it runs; and the way back, every byte checked.

A backup is a folder that looks like a data folder, and `backup.json`, written last, with the SHA-256 of every file in it.
"""
import errno
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from feinschliff.app.elsewhere import MARK
from feinschliff.app.lineage import START
from feinschliff.app.presence import alone_in
from feinschliff.app.service import Service
from feinschliff.core.chat import Wire
from feinschliff.core.errors import BadData, FolderInUse
from feinschliff.data.files import locked, read_bytes, sha256_of, write_text
from feinschliff.providers.training_runs import TrainingRuns
from feinschliff.store.contents import Contents, contents_of
from feinschliff.store.database import Database
from feinschliff.store.migrate import copy_sqlite

MANIFEST = "backup.json"
DATABASE = "feinschliff.sqlite"
NO_LINKS = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)
# The first is written last, so whoever sees it sees the others whole. Without the mark, a paused job that is cancelled after the way back
# would not be told at its provider.
RUN_INPUTS = ("spec.json", "train.jsonl", "valid.jsonl", MARK)


class Manifest(Wire):
    """`files` maps a path in the backup to its SHA-256. Without `database`, the tables are in PostgreSQL and not in here."""

    created_at: int
    database: bool
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class Made:
    """What a backup holds; `damaged` blobs, whose bytes had changed or were missing, it does not."""

    n_files: int
    n_bytes: int
    database: bool
    damaged: tuple[str, ...]


def back_up(service: Service, target: Path) -> Made:
    """Copy to `target`, a new or empty folder. Requests go on meanwhile; uploads wait while names are linked, not while bytes are copied.

    Raises BadData where `target` is not empty.
    """
    _refuse_used(target, "Name a new folder.")
    data = service.settings.data_dir
    links = data / "backup-links"
    with locked(data / "backup.lock"):
        shutil.rmtree(links, ignore_errors=True)  # a killed backup's
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            contents = _hold(service, target, links)
            damaged = _copy_blobs(links, contents, target / "blobs")
        finally:
            shutil.rmtree(links, ignore_errors=True)
        _copy_runs(data, contents, target)
    files = {str(path.relative_to(target)): sha256_of(path) for path in _files_in(target)}
    n_bytes = sum((target / name).stat().st_size for name in files)
    manifest = Manifest(created_at=service.clock(), database=service.database.is_sqlite, files=files)
    write_text(target / MANIFEST, manifest.model_dump_json(indent=1))
    return Made(len(files), n_bytes, service.database.is_sqlite, damaged)


def restore(source: Path, data: Path, *, replace: bool = False) -> Path | None:
    """Make `data` what it was. With `replace`, what is there is moved aside; the path it was moved to.

    The folder appears whole, after every checksum was compared, or not at all. Raises BadData, and FolderInUse where a server, or a
    training program that one left behind, works in it.
    """
    manifest = _manifest(source)
    with alone_in(data, "Stop it, then restore."):
        _refuse_programs(data)
        return _bring_back(source, manifest, data, replace=replace)


def _bring_back(source: Path, manifest: Manifest, data: Path, *, replace: bool) -> Path | None:
    if not replace:
        _refuse_used(data, "Name another folder with --data-dir, or say --replace: what is there is then moved aside.")
    new = data.with_name(f".{data.name}.restoring")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True, mode=0o700)
    try:
        for name, sha256 in manifest.files.items():
            _copy_checked(source / name, new / name, sha256)
        aside = _move_aside(data)
        new.rename(data)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return aside


def _hold(service: Service, target: Path, links: Path) -> Contents:
    """The database as of now, and second names for its blobs, which keep the bytes whatever is deleted from then on."""
    with service.blobs.locked():
        if service.database.is_sqlite:
            copy_sqlite(service.database, target / DATABASE)
            database = Database(f"sqlite:///{target / DATABASE}")
            try:
                with database.read() as db:
                    contents = contents_of(db)
            finally:
                database.close()
        else:
            with service.database.read() as db:
                contents = contents_of(db)
        links.mkdir(mode=0o700)
        for sha256 in contents.blobs:
            path = service.blobs.path(sha256)
            if path.is_file():
                _hold_blob(path, links / sha256)
    return contents


def _hold_blob(path: Path, second: Path) -> None:
    """A second name, or where the file system has none (FAT, some network shares), a copy made while nobody deletes."""
    try:
        os.link(path, second)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        shutil.copyfile(path, second)


def _copy_blobs(links: Path, contents: Contents, target: Path) -> tuple[str, ...]:
    damaged: list[str] = []
    for sha256 in sorted(contents.blobs):
        source, copy = links / sha256, target / sha256[:2] / sha256
        if not source.is_file() or sha256_of(source) != sha256:
            damaged.append(sha256)
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    return tuple(damaged)


def _copy_runs(data: Path, contents: Contents, target: Path) -> None:
    """Models, and the runs of ended jobs whole. Of others only what they start from: they train anew, to the same bits."""
    for job in sorted(contents.ended_jobs):
        _copy_folder(data / "runs" / job, target / "runs" / job)
    for job in sorted(contents.open_jobs):
        for name in RUN_INPUTS:
            source, copy = data / "runs" / job / name, target / "runs" / job / name
            if source.is_file():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)
        _copy_folder(data / "runs" / job / START, target / "runs" / job / START)
    for folder in sorted(contents.folders):
        _copy_folder(data / folder, target / folder)


def _copy_folder(source: Path, target: Path) -> None:
    """Raises BadData where files vanish on the way: a model is being deleted."""
    if not source.is_dir():
        return
    try:
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("program", "*.lock", "*.part"))
    except shutil.Error as error:
        first = error.args[0][0]
        raise BadData(f"{first[0]} could not be copied: {first[2]}", hint="Make the backup again, into a new folder.") from None


def _manifest(source: Path) -> Manifest:
    if not (source / MANIFEST).is_file():
        raise BadData(f"{source} is no whole backup: {MANIFEST} is missing.", hint="It is written last; take an earlier backup.")
    try:
        manifest = Manifest.model_validate_json(read_bytes(source / MANIFEST))
    except ValidationError:
        raise BadData(f"{source / MANIFEST} is damaged.", hint="Take another backup.") from None
    for name in manifest.files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise BadData(f"{source / MANIFEST} names {name!r}, outside of the backup.", hint="Take another backup.")
    return manifest


def _copy_checked(source: Path, target: Path, sha256: str) -> None:
    if not source.is_file():
        raise BadData(f"The backup's {source} is missing.", hint="Nothing was restored. Take another backup.")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    if sha256_of(target) != sha256:
        raise BadData(f"The backup's {source} has changed: its checksum differs.", hint="Nothing was restored. Take another backup.")


def _move_aside(data: Path) -> Path | None:
    if not data.exists():
        return None
    if not any(data.iterdir()):
        data.rmdir()
        return None
    aside = data.with_name(f"{data.name}.replaced-{time.time_ns()}")
    data.rename(aside)
    return aside


def _refuse_programs(data: Path) -> None:
    """They would go on writing below the same names, into what was restored."""
    runs = TrainingRuns(data / "runs")
    busy = sorted(job for job in runs.known() if runs.alive(job))
    if busy:
        raise FolderInUse(
            f"A training program still works in {runs.folder(busy[0])}.", hint="Start and stop the server once, which ends it; then restore."
        )


def _refuse_used(folder: Path, hint: str) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadData(f"{folder} is not empty.", hint=hint)


def _files_in(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())

"""Bytes by their SHA-256, in a folder: written while they arrive, checked when they are read, shared by equal files."""
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from feinschliff.core.service import Sha256
from feinschliff.core.service_errors import NO_ROOM_HINT, CorruptBlob, NoRoom, is_full
from feinschliff.data.files import locked, sha256_of


class Incoming:
    """Bytes on their way in: hashed and written piece by piece, so that memory does not grow with the file.

    Use it with `with`; what was not kept by its end is removed. Writing raises NoRoom, by when the disk still has `spare_bytes`.
    """

    def __init__(self, folder: Path, spare_bytes: int = 0) -> None:
        self._spare_bytes = spare_bytes
        handle, name = tempfile.mkstemp(dir=folder)
        self._file = os.fdopen(handle, "wb")
        self.path = Path(name)
        self.size = 0
        self.head = b""  # the first kilobytes, for a first look
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            with suppress(OSError):  # what is buffered may not fit any more, and is to go anyway
                self._file.close()
        finally:
            self.path.unlink(missing_ok=True)

    def write(self, piece: bytes) -> None:
        with _room_for(self.path):
            if free_bytes(self.path) < self._spare_bytes + len(piece):
                raise NoRoom("There is no room left on the disk for more files.", hint=NO_ROOM_HINT)
            self._file.write(piece)
        self._sha256.update(piece)
        self._md5.update(piece)
        self.size += len(piece)
        if len(self.head) < 4096:
            self.head += piece[: 4096 - len(self.head)]

    def finish(self) -> None:
        """Make sure that the bytes are on the disk."""
        with _room_for(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())

    @property
    def sha256(self) -> Sha256:
        return Sha256(self._sha256.hexdigest())

    @property
    def md5(self) -> str:
        return self._md5.hexdigest()


class Blobs:
    """`root/ab/abcd…`. Rows refer to blobs; both change under `locked`, so a blob is never removed while a row is being added."""

    def __init__(self, root: Path, spare_bytes: int = 0) -> None:
        self._root = root
        self._spare_bytes = spare_bytes
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)

    def incoming(self) -> Incoming:
        """Raises NoRoom."""
        with _room_for(self._incoming):
            return Incoming(self._incoming, self._spare_bytes)

    @contextmanager
    def locked(self) -> Iterator[None]:
        with locked(self._root / "lock"):
            yield

    def path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256

    def keep(self, incoming: Incoming) -> None:
        """Move it into its place. Call within `locked`, before the row that refers to it is committed."""
        target = self.path(incoming.sha256)
        target.parent.mkdir(exist_ok=True)
        os.replace(incoming.path, target)

    def checked(self, sha256: str) -> Path:
        """The file, its bytes verified. Raises CorruptBlob."""
        path = self.path(sha256)
        if not path.is_file():
            raise CorruptBlob(f"The stored bytes {sha256[:12]}… are missing.", hint="Restore them from a backup, or upload the file again.")
        if sha256_of(path) != sha256:
            raise CorruptBlob(
                f"The stored bytes {sha256[:12]}… have changed on the disk: their checksum differs.",
                hint="Restore them from a backup, or upload the file again.",
            )
        return path

    def drop(self, sha256: str) -> None:
        """Call within `locked`, after the last row that refers to it is gone."""
        self.path(sha256).unlink(missing_ok=True)

    def all(self) -> Iterator[Sha256]:
        """Every blob there is."""
        for path in self._root.glob("??/*"):
            yield Sha256(path.name)

    def clear_incoming(self) -> None:
        """Remove what a killed server left half arrived. Only before the first request."""
        for path in self._incoming.iterdir():
            path.unlink(missing_ok=True)


def free_bytes(path: Path) -> int:
    """What everybody may still write on the disk of `path`."""
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise NoRoom(f"There is no room left on the disk of {path.parent.name}.", hint=NO_ROOM_HINT) from error
        raise

"""Reading bytes and writing them whole or not at all."""
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feinschliff.core.errors import BadData


def read_bytes(path: Path) -> bytes:
    """Raises BadData for a missing file, a folder, or one that may not be read."""
    if path.is_dir():
        raise BadData(f"{path} is a folder, not a data file.", hint="Name one file in it.")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadData(f"There is no file {path}.", hint="Check the path; it is relative to where you are.") from None
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror or error}.", hint="Check its permissions.") from None


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces `path` in one step, so that a crash or a full disk leaves the old file and no half a new one.

    Raises BadData where the place cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BadData(
            f"{path} cannot be written: {error.strerror or error}.",
            hint="Check free space and permissions; nothing was changed.",
        ) from None


def write_text(path: Path, text: str) -> None:
    """`write_atomically` of UTF-8."""
    write_atomically(path, text.encode())


def sha256_of(path: Path) -> str:
    """Of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting for whoever has it; the system releases it when this process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cache_folder() -> Path:
    """Where what can be made again is kept: `$FEINSCHLIFF_CACHE`, else `$XDG_CACHE_HOME/feinschliff` or `~/.cache/feinschliff`."""
    if own := os.environ.get("FEINSCHLIFF_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "feinschliff"

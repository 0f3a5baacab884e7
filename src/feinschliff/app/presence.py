"""Who works in a data folder? One server at a time, and no restore beside it."""
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feinschliff.core.errors import FolderInUse


@contextmanager
def alone_in(data: Path, hint: str) -> Iterator[None]:
    """Be the only one, by a lock on the folder itself: the system releases it when this process ends, however it ends.

    A folder that is not there is nobody's. Raises FolderInUse.
    """
    if not data.is_dir():
        yield
        return
    folder = os.open(data, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(f"A server runs on {data}.", hint=hint) from None
        yield
    finally:
        os.close(folder)

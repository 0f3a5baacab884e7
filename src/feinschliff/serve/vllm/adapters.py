"""Tuned models in vLLM's server: loaded when first asked, unloaded when many others were asked since."""
import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from feinschliff.core.errors import ModelUnavailable
from feinschliff.serve.vllm.server import VllmServer


@dataclass(slots=True)
class _Loaded:
    users: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    ready: bool = False


class Adapters:
    """The `limit` most recently used ones stay, and those in use."""

    def __init__(self, server: VllmServer, limit: int) -> None:
        self._server, self._limit = server, limit
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()

    def __len__(self) -> int:
        return len(self._loaded)

    @asynccontextmanager
    async def use(self, folder: Path) -> AsyncIterator[str]:
        """What the adapter of a PEFT folder is called there, for as long as it is used. Raises ModelUnavailable."""
        name = name_of(folder)
        loaded = self._loaded.setdefault(name, _Loaded())
        self._loaded.move_to_end(name)
        loaded.users += 1
        try:
            async with loaded.lock:
                if not loaded.ready:
                    check(folder)
                    await self._server.load_adapter(name, folder)
                    loaded.ready = True
            yield name
        finally:
            loaded.users -= 1
            await self._forget_some()

    async def _forget_some(self) -> None:
        idle = [name for name, loaded in self._loaded.items() if not loaded.users]
        too_many = max(0, len(self._loaded) - self._limit)
        for name in [n for n in idle if not self._loaded[n].ready] + idle[:too_many]:
            gone = self._loaded.pop(name, None)
            if gone is not None and gone.ready:
                await self._server.unload_adapter(name)


def name_of(folder: Path) -> str:
    """Another one once the weights have changed: vLLM remembers what it has computed by the name. Raises ModelUnavailable."""
    try:
        changed_ns = (folder / "adapter_model.safetensors").stat().st_mtime_ns
    except FileNotFoundError as error:
        raise ModelUnavailable(
            f"{folder} is not an adapter folder: adapter_model.safetensors is missing.",
            hint="Name the folder that a training run or PEFT's save_pretrained wrote.",
        ) from error
    return f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}-{changed_ns}"


def check(folder: Path) -> None:
    """Raises ModelUnavailable for what vLLM would refuse in words that name no remedy."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("use_dora"):
        raise ModelUnavailable(
            f"{folder} is a DoRA adapter, which vLLM does not serve.",
            hint="Serve it with `feinschliff serve --engine feinschliff`, or merge it into its base model with PEFT.",
        )

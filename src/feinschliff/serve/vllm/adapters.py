"""Tuned models in vLLM's server: loaded when first asked, unloaded when many others were asked since."""
import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from feinschliff.core.errors import ModelUnavailable


class Shelf(Protocol):
    """Where adapters are loaded: a vllm.server.VllmServer."""

    async def load_adapter(self, name: str, folder: Path) -> None: ...

    async def unload_adapter(self, name: str) -> None: ...


@dataclass(slots=True)
class _Loaded:
    users: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    ready: bool = False


class Adapters:
    """The `limit` most recently used ones stay, and those in use."""

    def __init__(self, shelf: Shelf, limit: int) -> None:
        self._shelf, self._limit = shelf, limit
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
            # Whoever leaves does not stop it: vLLM would have the adapter, and not take it again under this name.
            await asyncio.shield(self._load(name, folder, loaded))
            yield name
        finally:
            loaded.users -= 1
            await self._forget_some()

    async def _load(self, name: str, folder: Path, loaded: _Loaded) -> None:
        async with loaded.lock:
            if not loaded.ready:
                check(folder)
                await self._shelf.load_adapter(name, folder)
                loaded.ready = True

    async def _forget_some(self) -> None:
        """Those that could not be loaded, and the longest unused beyond the limit."""
        unused = [name for name, loaded in self._loaded.items() if not loaded.users and not loaded.lock.locked()]
        failed = [name for name in unused if not self._loaded[name].ready]
        for name in failed:
            del self._loaded[name]
        for name in [n for n in unused if n not in failed][: max(0, len(self._loaded) - self._limit)]:
            await self._unload(name, self._loaded[name])

    async def _unload(self, name: str, loaded: _Loaded) -> None:
        async with loaded.lock:
            if loaded.ready and not loaded.users:
                loaded.ready = False
                await self._shelf.unload_adapter(name)
        if not loaded.users:
            self._loaded.pop(name, None)


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

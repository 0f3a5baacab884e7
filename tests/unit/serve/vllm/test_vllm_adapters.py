"""Adapters as vLLM is told of them. What takes them here is a list; the true one is in tests/service/test_vllm.py."""
import asyncio
import json
import os

import pytest

from feinschliff.core.errors import ModelUnavailable
from feinschliff.serve.vllm.adapters import Adapters, check, name_of


def make(folder, **config):
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 16, "use_dora": False} | config))
    return folder


class Shelf:
    """Takes an adapter once, as vLLM does; slowly, where a gate is given."""

    def __init__(self, gate=None):
        self.names, self.loads, self._gate = [], 0, gate

    async def load_adapter(self, name, folder):
        assert name not in self.names
        if self._gate:
            await self._gate.wait()
        self.loads += 1
        self.names.append(name)

    async def unload_adapter(self, name):
        self.names.remove(name)


def test_changed_weights_have_another_name(tmp_path):
    folder = make(tmp_path / "a")
    name = name_of(folder)
    assert name == name_of(folder)
    os.utime(folder / "adapter_model.safetensors", ns=(1, 1))
    assert name_of(folder) != name


def test_what_is_refused_names_a_remedy(tmp_path):
    check(make(tmp_path / "lora"))
    with pytest.raises(ModelUnavailable, match="DoRA") as refused:
        check(make(tmp_path / "dora", use_dora=True))
    assert "--engine feinschliff" in refused.value.hint
    with pytest.raises(ModelUnavailable, match=r"adapter_model\.safetensors is missing"):
        name_of(tmp_path)


def test_the_longest_unused_makes_room_and_those_in_use_stay(tmp_path):
    a, b, c = (make(tmp_path / name) for name in "abc")

    async def work():
        shelf = Shelf()
        adapters = Adapters(shelf, limit=2)
        async with adapters.use(a):
            for folder in (b, c):
                async with adapters.use(folder) as name:
                    assert name in shelf.names
            assert set(shelf.names) == {name_of(a), name_of(c)}
        async with adapters.use(c), adapters.use(c):
            assert shelf.loads == 3
        assert len(adapters) == 2

    asyncio.run(work())


def test_who_leaves_while_it_loads_does_not_leave_it_half_loaded(tmp_path):
    a = make(tmp_path / "a")

    async def work():
        gate = asyncio.Event()
        shelf = Shelf(gate)
        adapters = Adapters(shelf, limit=1)
        leaves = asyncio.create_task(adapters.use(a).__aenter__())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
        gate.set()
        async with adapters.use(a) as name:
            assert (shelf.names, shelf.loads) == ([name], 1)

    asyncio.run(work())


def test_what_could_not_be_loaded_is_tried_again(tmp_path):
    dora = make(tmp_path / "a", use_dora=True)

    async def work():
        adapters = Adapters(Shelf(), limit=1)
        for _ in range(2):
            with pytest.raises(ModelUnavailable, match="DoRA"):
                async with adapters.use(dora):
                    pass
        assert len(adapters) == 0

    asyncio.run(work())

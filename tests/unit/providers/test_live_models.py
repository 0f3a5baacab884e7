"""The client of live engines, against their real process."""
import asyncio
import os
import signal
from dataclasses import replace

import pytest

from feinschliff.core.chat import user
from feinschliff.core.errors import BadData, ModelUnavailable, Overloaded, ProgramFailed
from feinschliff.core.live import ChatPrompt, Completed, Limits, LiveSampling, Piece, Submit
from feinschliff.providers.live import Bounds, LiveModels
from feinschliff.providers.live_program import OURS

CHAT = ChatPrompt(messages=(user("How many people live in Basel?"),))


def ask(name, max_tokens: int | None = 8):
    return Submit(id=name, prompt=CHAT, sampling=LiveSampling(max_tokens=max_tokens, temperature=0, ignore_end=True))


async def text(models, base, request):
    pieces, done = [], None
    async for answer in models.answers(base, request):
        if isinstance(answer, Piece):
            pieces.append(answer.text)
        if isinstance(answer, Completed):
            done = answer
    assert done is not None
    return "".join(pieces)


def with_models(bounds, work, folder, program=OURS):
    async def run():
        models = LiveModels(folder, bounds, program=program)
        try:
            return await work(models)
        finally:
            await models.close()
            assert models.loaded == []

    return asyncio.run(run())


def program_of(models, base):
    return models._engines[base].program


def test_many_at_once_one_that_leaves_some_that_are_wrong_and_a_death(tiny_model, tmp_path):
    async def work(models):
        alone = await text(models, tiny_model, ask("alone"))
        endless = models.answers(tiny_model, ask("endless", None))
        await anext(endless)
        together = await asyncio.gather(*(text(models, tiny_model, ask(str(i))) for i in range(4)))
        assert together == [alone] * 4
        program = program_of(models, tiny_model)
        assert (await program.stats("s")).active == 1
        await endless.aclose()
        assert (await program.stats("s")).active == 0  # a cancellation goes the same way, ahead of the question
        assert not program.busy
        with pytest.raises(BadData, match="exceeds"):
            await text(models, tiny_model, ask("long", 100_000))
        with pytest.raises(ModelUnavailable):
            await text(models, tmp_path, ask("x"))
        under_way = models.answers(tiny_model, ask("b", None))
        await anext(under_way)
        os.kill(program_of(models, tiny_model)._child.pid, signal.SIGKILL)
        with pytest.raises(ProgramFailed, match="code -9"):
            async for _ in under_way:
                pass
        assert await text(models, tiny_model, ask("c")) == alone

    with_models(None, work, tmp_path)


def test_engines_share_a_bounded_memory(tiny_model, tmp_path):
    from tiny import make_tiny_model

    other = make_tiny_model(tmp_path / "other", seed=5)
    each = Limits(slots=1, waiting=0, cache_bytes=1 << 20, slots_bytes=1 << 20)

    async def work(models):
        endless = models.answers(tiny_model, ask("endless", None))
        await anext(endless)
        waits = asyncio.create_task(text(models, tiny_model, ask("waits")))
        while (await program_of(models, tiny_model).stats("s")).waiting == 0:
            await anext(endless)
        for model in (tiny_model, other):  # a full queue, and memory that is all in use
            with pytest.raises(Overloaded) as refused:
                await text(models, model, ask("x"))
            assert refused.value.retry_after_s > 0
        await endless.aclose()
        await waits
        await text(models, other, ask("y"))
        assert models.loaded == [other]
        await models.rest()
        assert models.loaded == []

    with_models(Bounds(memory_bytes=1, idle_s=-1.0, each=each), work, tmp_path)


def test_an_engine_that_fills_its_device_is_the_only_one(tiny_model, tmp_path):
    from tiny import make_tiny_model

    other = make_tiny_model(tmp_path / "other", seed=5)

    async def work(models):
        for model in (tiny_model, other):
            await text(models, model, ask("x"))
            assert models.loaded == [model]

    with_models(None, work, tmp_path, replace(OURS, fills_device=True))

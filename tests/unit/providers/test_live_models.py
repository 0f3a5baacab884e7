"""The client of live engines, against their real process."""
import asyncio
import contextlib
import os
import signal

import pytest

from feinschliff.core.chat import user
from feinschliff.core.errors import BadData, ModelUnavailable, Overloaded, ProgramFailed
from feinschliff.core.live import ChatPrompt, Completed, Limits, LiveSampling, Piece, Submit
from feinschliff.providers.live import Bounds, LiveModels

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


def with_models(bounds, work, folder):
    async def run():
        models = LiveModels(folder, bounds)
        try:
            return await work(models)
        finally:
            await models.close()
            assert models.loaded == []

    return asyncio.run(run())


def program_of(models, base):
    return models._engines[base].program


def test_many_at_once_one_that_leaves_and_one_that_is_wrong(tiny_model, tmp_path):
    async def work(models):
        alone = await text(models, tiny_model, ask("alone"))
        endless = models.answers(tiny_model, ask("endless", None))
        await anext(endless)
        together = await asyncio.gather(*(text(models, tiny_model, ask(str(i))) for i in range(4)))
        assert together == [alone] * 4
        program = program_of(models, tiny_model)
        assert (await program.stats("s")).active == 1
        await endless.aclose()
        while (await program.stats("s")).active:
            await asyncio.sleep(0.01)
        assert not program.busy
        with pytest.raises(BadData, match="exceeds"):
            await text(models, tiny_model, ask("long", 100_000))
        assert await text(models, tiny_model, ask("again")) == alone

    with_models(None, work, tmp_path)


def test_one_that_dies_is_started_anew(tiny_model, tmp_path):
    async def work(models):
        first = await text(models, tiny_model, ask("a"))
        under_way = models.answers(tiny_model, ask("b", None))
        await anext(under_way)
        os.kill(program_of(models, tiny_model)._child.pid, signal.SIGKILL)
        with pytest.raises(ProgramFailed, match="code -9"):
            async for _ in under_way:
                pass
        assert await text(models, tiny_model, ask("c")) == first

    with_models(None, work, tmp_path)


def test_engines_share_a_bounded_memory(tiny_model, tmp_path):
    from tiny import make_tiny_model

    other = make_tiny_model(tmp_path / "other", seed=5)
    each = Limits(slots=1, waiting=0, cache_bytes=1 << 20, slots_bytes=1 << 20)

    async def work(models):
        endless = models.answers(tiny_model, ask("endless", None))
        await anext(endless)
        with pytest.raises(Overloaded) as refused:
            await text(models, other, ask("x"))
        assert refused.value.retry_after_s > 0
        await endless.aclose()
        await text(models, other, ask("y"))
        assert models.loaded == [other]
        await models.rest()
        assert models.loaded == []

    with_models(Bounds(memory_bytes=1, idle_s=-1.0, each=each), work, tmp_path)


def test_a_full_queue_and_a_folder_that_is_no_model(tiny_model, tmp_path):
    async def work(models):
        async with contextlib.AsyncExitStack() as stack:
            for name in ("works", "waits"):
                answers = await stack.enter_async_context(contextlib.aclosing(models.answers(tiny_model, ask(name, None))))
                if name == "works":
                    await anext(answers)
                else:
                    task = asyncio.create_task(anext(answers))
                    await asyncio.sleep(0.2)
            with pytest.raises(Overloaded):
                await text(models, tiny_model, ask("refused"))
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        with pytest.raises(ModelUnavailable):
            await text(models, tmp_path, ask("x"))

    with_models(Bounds(each=Limits(slots=1, waiting=1)), work, tmp_path)

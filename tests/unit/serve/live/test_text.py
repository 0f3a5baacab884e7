import pytest
from hypothesis import given
from hypothesis import strategies as st

from feinschliff.serve.live.text import Outgoing
from feinschliff.serve.live.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def vocabulary(tiny_model):
    return Vocabulary(tiny_model)


@given(text=st.text(max_size=40), stop=st.lists(st.text(min_size=1, max_size=3), max_size=2), data=st.data())
def test_pieces_add_up_to_the_text_before_the_first_stop_sequence(vocabulary, text, stop, data):
    if text and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(text) - 1))
        stop.append(text[at : at + 2])
    outgoing = Outgoing(vocabulary.stream(markup=True), stop)
    told = ""
    for token in vocabulary.encode_plain(text):
        told += outgoing.push(token)
        if outgoing.stopped:
            break
    else:
        told += outgoing.finish()
    cut = min((text.index(s) for s in stop if s in text), default=len(text))
    assert told == text[:cut]
    assert outgoing.stopped == any(s in text for s in stop)


def test_half_a_character_at_the_end_is_shown_as_such(vocabulary):
    outgoing = Outgoing(vocabulary.stream(markup=False), ())
    tokens = vocabulary.encode_plain("é")
    assert len(tokens) == 2
    assert outgoing.push(tokens[0]) == ""
    assert outgoing.finish() == "�"


def test_tokens_know_their_bytes(vocabulary):
    text = "Zürich 🏔 <|im_end|>\n"
    assert b"".join(vocabulary.raw(t) for t in vocabulary.encode_plain(text)) == text.encode()

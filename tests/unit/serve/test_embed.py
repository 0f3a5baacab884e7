import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from feinschliff.serve.embed import BATCH, Encoder

TEXTS = ["How many people?", "Basel", "What is the capital of the country with the most rivers? " * 3, "Bern", "x"]


@pytest.fixture(scope="module")
def encoder(tiny_encoder):
    return Encoder(tiny_encoder, max_tokens=48)


def test_embedding_is_the_mean_of_the_token_states_at_unit_length(tiny_encoder, encoder):
    model = AutoModel.from_pretrained(str(tiny_encoder)).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(tiny_encoder))
    for text, ours in zip(TEXTS, encoder(TEXTS), strict=True):
        with torch.no_grad():
            states = model(torch.tensor([tokenizer(text)["input_ids"][:48]])).last_hidden_state[0]
        wanted = states.mean(0)
        torch.testing.assert_close(ours, wanted / wanted.norm(), rtol=1e-4, atol=1e-5)


def test_neighbours_and_order_do_not_matter(encoder):
    many = [f"{t} {i}" for i in range(BATCH // 2) for t in TEXTS[:3]]
    forward = encoder(many)
    assert forward.shape == (len(many), 32)
    torch.testing.assert_close(encoder(many[::-1]).flip(0), forward, rtol=1e-4, atol=1e-5)


def test_no_texts(encoder):
    assert len(encoder([])) == 0

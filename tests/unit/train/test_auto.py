from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feinschliff.core.chat import Rendered
from feinschliff.core.jobs import Full, Hyperparameters, Lora
from feinschliff.train.auto import MIN_UPDATES, Facts, resolve
from feinschliff.train.shape import ModelShape

AUTO = Hyperparameters(n_epochs="auto", batch_size="auto", learning_rate="auto")
FACTS = Facts(n_examples=1200, trained_tokens=60_000, hidden=2000, family="llama", method=Lora(rank=16, alpha=32))


@pytest.mark.parametrize(("n", "epochs"), [(1, 25), (10, 10), (33, 3), (34, 3), (1000, 3), (8333, 3), (8400, 2), (30_000, 1)])
def test_passes_follow_the_number_of_examples(n, epochs):
    assert resolve(AUTO, replace(FACTS, n_examples=n)).n_epochs == epochs


@pytest.mark.parametrize(
    ("n", "tokens_each", "batch"),
    [
        (1200, 50, 8),  # the floor
        (1200, 8, 32),  # 256 trained tokens
        (1200, 1, 32),  # … but no more than LoRA's cap
        (10_000, 50, 16),  # 0.2 % is 20
        (100, 50, 2),  # 300 examples in all must give 100 updates
        (10, 50, 1),
    ],
)
def test_batches(n, tokens_each, batch):
    assert resolve(AUTO, replace(FACTS, n_examples=n, trained_tokens=n * tokens_each)).batch_size == batch


def test_full_fine_tuning_may_have_larger_batches():
    assert resolve(AUTO, replace(FACTS, trained_tokens=30_000, n_examples=30_000, method=Full())).batch_size == 256


def test_rates_follow_width_family_and_method():
    def rate(**changes):
        return resolve(AUTO, replace(FACTS, **changes)).learning_rate

    assert rate() == 5e-4
    assert rate(method=Full()) == 5e-5
    assert rate(hidden=500) == pytest.approx(5e-4 * 4**0.781, rel=1e-2)
    assert rate(hidden=500, family="qwen3") == pytest.approx(5e-4 * 4**0.0775, rel=1e-2)
    assert rate(method=Lora(rank=64, alpha=32)) == rate()
    assert rate(method=Lora(rank=16, alpha=64)) == rate() / 2
    assert rate(method=Lora(rank=16, alpha=8, rslora=True)) == rate()  # scale 2, as alpha 32 without


def test_what_is_given_stays_and_only_rules_that_were_used_are_told():
    given_all = resolve(Hyperparameters(n_epochs=7, batch_size=5, learning_rate=0.3, schedule="linear"), FACTS)
    assert (given_all.n_epochs, given_all.batch_size, given_all.learning_rate, given_all.schedule) == (7, 5, 0.3, "linear")
    assert given_all.reasons == ()
    (reason,) = resolve(Hyperparameters(learning_rate="auto"), FACTS).reasons
    assert reason.startswith("learning_rate 0.0005: 5e-5")


@given(st.integers(1, 10**6), st.integers(1, 10**9), st.sampled_from([Full(), Lora()]))
def test_any_data_gives_a_usable_setting_with_enough_updates_where_there_is_enough_data(n, tokens, method):
    h = resolve(AUTO, replace(FACTS, n_examples=n, trained_tokens=tokens, method=method))
    again = Hyperparameters(n_epochs=h.n_epochs, batch_size=h.batch_size, learning_rate=h.learning_rate)  # within bounds
    assert again.batch_size == h.batch_size
    if n * h.n_epochs >= MIN_UPDATES:
        assert n * h.n_epochs / h.batch_size >= MIN_UPDATES


def test_facts_are_counted():
    shape = ModelShape((), 64, 100, 10, "qwen2")
    rows = [Rendered([1, 2, 3], [0.0, 1.0, 1.0]), Rendered([1, 2], [0.0, 0.0])]
    assert Facts.of(rows, shape, Full()) == Facts(2, 2, 64, "qwen2", Full())

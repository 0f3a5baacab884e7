"""Greedy answers equal transformers' own generate(); batching changes nothing."""
import pytest
import torch
from transformers import AutoModelForCausalLM

from feinschliff.core.engine import Sampling
from feinschliff.nn.model import load
from feinschliff.serve.engine import MIN_PREFIX, generate
from tiny import FAMILIES, make_tiny_model

NEVER = frozenset[int]()
COMMON = list(range(10, 10 + 2 * MIN_PREFIX))
APART = [[5, 6, 7], [8, 9, *range(100, 140)], [11], list(range(200, 230)), [5, 6, 9, 9]]
PROMPTS = {
    "apart": APART,
    "common beginning": [COMMON + p for p in APART],
    "one within another": [COMMON, [*COMMON, 5], COMMON],
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("engine")
    return {family: make_tiny_model(root / family, family) for family in FAMILIES}


@pytest.fixture(scope="module")
def llama(models):
    return load(models["llama"], dtype=torch.float32, trainable=False)


def answers(decoder, prompts, *, max_tokens=20, stop=NEVER, slots=32, **sampling):
    made = generate(
        decoder, prompts, Sampling(max_tokens=max_tokens, **sampling), stop_ids=stop, slots=slots, window=decoder.window
    )
    return [g.tokens for g in made]


def theirs(folder, prompts, max_tokens=20):
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, attn_implementation="eager")
    model.generation_config.eos_token_id = None
    out = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, do_sample=False)
        out.append(whole[0, len(prompt) :].tolist())
    return out


@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS.keys())
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_equal_transformers(models, family, prompts):
    decoder = load(models[family], dtype=torch.float32, trainable=False)
    assert answers(decoder, prompts) == theirs(models[family], prompts)


@pytest.mark.parametrize("family", ["phi3", "gemma2"])
def test_a_window_longer_than_all_prompts_lets_them_share(family, tmp_path):
    folder = make_tiny_model(tmp_path / family, family, window=200)
    decoder = load(folder, dtype=torch.float32, trainable=False)
    assert answers(decoder, PROMPTS["common beginning"]) == theirs(folder, PROMPTS["common beginning"])


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_more_prompts_than_slots(llama, slots):
    prompts = PROMPTS["common beginning"] + APART
    assert answers(llama, prompts, slots=slots) == answers(llama, prompts, slots=len(prompts))


def test_the_same_batch_twice_gives_the_same_answers(llama):
    for temperature in (0.0, 1.0):
        first, second = (answers(llama, APART, temperature=temperature, slots=2) for _ in range(2))
        assert first == second


def test_another_seed_samples_otherwise(llama):
    assert answers(llama, APART, temperature=1.0, seed=1) != answers(llama, APART, temperature=1.0, seed=2)


def test_the_same_prompt_twice_in_a_batch_is_sampled_independently(llama):
    one, two = answers(llama, [APART[1], APART[1]], temperature=1.5)
    assert one != two


def test_a_tiny_nucleus_is_greedy(llama):
    assert answers(llama, APART, temperature=1.0, top_p=1e-6) == answers(llama, APART)


def test_the_stop_token_ends_an_answer_and_is_not_part_of_it(llama):
    free = answers(llama, APART)
    stop = free[1][4]
    stopped = generate(llama, APART, Sampling(max_tokens=20), stop_ids=frozenset({stop}), slots=2)
    for whole, got in zip(free, stopped, strict=True):
        if stop in whole:
            assert (got.tokens, got.finish_reason) == (whole[: whole.index(stop)], "stop")
        else:
            assert (got.tokens, got.finish_reason) == (whole, "length")


def test_length_limit_and_progress(llama):
    told: list[int] = []
    made = generate(llama, APART, Sampling(max_tokens=3), stop_ids=NEVER, slots=2, on_finished=told.append)
    assert [(len(g.tokens), g.finish_reason) for g in made] == [(3, "length")] * len(APART)
    assert told == sorted(told)
    assert told[-1] == len(APART)


def test_no_prompts_no_answers(llama):
    assert answers(llama, []) == []

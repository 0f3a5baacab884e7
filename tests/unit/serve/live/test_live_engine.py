"""What the live engine says equals what each conversation would be answered alone, whoever else is there."""
import json

import pytest
import torch
from jsonschema import Draft202012Validator
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from feinschliff.core.chat import user
from feinschliff.core.engine import Sampling
from feinschliff.core.jobs import Lora
from feinschliff.core.live import (
    ChatPrompt,
    Completed,
    Declined,
    Ended,
    JsonFormat,
    Limits,
    LiveSampling,
    Piece,
    Submit,
    TextPrompt,
    TokenPrompt,
)
from feinschliff.data.render import Renderer
from feinschliff.nn import adapter
from feinschliff.nn.model import load
from feinschliff.serve.engine import generate
from feinschliff.serve.live import scheduler
from feinschliff.serve.live.engine import LiveEngine
from feinschliff.serve.live.prefix_cache import BLOCK
from tiny import FAMILIES, make_tiny_model

COMMON = list(range(10, 10 + 3 * BLOCK))
PROMPTS = [[5, 6, 7], [8, 9, *range(100, 140)], [11], [*COMMON, 5], [*COMMON, 7, 8, 9], COMMON + list(range(200, 290)), [*COMMON, 5]]
GREEDY = LiveSampling(max_tokens=20, temperature=0, ignore_end=True, logprobs=0)


class Desk:
    """An engine and what it has said."""

    def __init__(self, folder, **limits):
        self.said = []
        self.engine = LiveEngine(folder, self.said.append, limits=Limits(**limits), dtype=torch.float32)

    def submit(self, name, prompt, **more):
        prompt = TokenPrompt(tokens=prompt) if isinstance(prompt, list) else prompt
        self.engine.submit(Submit(id=name, prompt=prompt, **({"sampling": GREEDY} | more)))

    def work(self):
        while self.engine.step():
            pass

    def of(self, kind, name):
        return [e for e in self.said if isinstance(e, kind) and e.id == name]

    def tokens(self, name, index=0):
        return [t.token for p in self.of(Piece, name) if p.index == index for t in p.tokens]

    def text(self, name):
        return "".join(p.text for p in self.of(Piece, name))

    def ask(self, prompts, **more):
        for i, prompt in enumerate(prompts):
            self.submit(str(i), prompt, **more)
        self.work()
        return [self.tokens(str(i)) for i in range(len(prompts))]


def alone(folder, prompts, max_tokens=20):
    """The batch engine's answers, each prompt by itself; that one is held equal to transformers."""
    decoder = load(folder, dtype=torch.float32, trainable=False)
    ask = {"sampling": Sampling(max_tokens=max_tokens), "stop_ids": frozenset(), "window": decoder.window}
    return [generate(decoder, [p], **ask)[0].tokens for p in prompts]


@pytest.fixture(scope="module")
def expected(tiny_model):
    return alone(tiny_model, PROMPTS)


@pytest.fixture
def desk(tiny_model):
    return Desk(tiny_model)


@pytest.fixture(params=[False, True], ids=["", "shared beginnings"])
def sharing(request, monkeypatch):
    """Conversations in tests are too short for common beginnings to pay; here they are also shared where that costs."""
    if request.param:
        monkeypatch.setattr(scheduler, "SHARE_GROUP", 1)
        monkeypatch.setattr(scheduler, "SHARE_ALL", 0)


@pytest.mark.usefixtures("sharing")
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_as_alone(family, tmp_path):
    folder = make_tiny_model(tmp_path / family, family)
    desk = Desk(folder)
    assert desk.engine.lean == (family in ("llama", "qwen2", "phi3"))
    assert desk.ask(PROMPTS) == alone(folder, PROMPTS)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_adapters_of_both_kinds(family, dora, tmp_path):
    folder = make_tiny_model(tmp_path / family, family)
    method = Lora(rank=4, alpha=8.0, dora=dora)
    decoder = load(folder, dtype=torch.float32, trainable=False)
    adapter.add(decoder, method, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for place in adapter.places(decoder):
            for part in place.parameters.values():
                part.add_(torch.randn(part.shape, generator=generator) * 0.1)
            place.projection.product.refresh()
    adapter.save(tmp_path / "adapter", adapter.current(decoder), method, str(folder))
    ask = {"sampling": Sampling(max_tokens=20), "stop_ids": frozenset(), "window": decoder.window}
    wanted = [generate(decoder, [p], **ask)[0].tokens for p in PROMPTS]
    desk = Desk(folder)
    base = desk.ask(PROMPTS[:2])
    for i, prompt in enumerate(PROMPTS):
        desk.submit(f"tuned {i}", prompt, adapter=str(tmp_path / "adapter"))
        desk.submit(f"base {i}", prompt)
    desk.work()
    assert [desk.tokens(f"tuned {i}") for i in range(len(PROMPTS))] == wanted
    assert [desk.tokens(f"base {i}") for i in range(2)] == base


@pytest.mark.usefixtures("sharing")
def test_who_comes_later_joins_those_in_work(desk, expected):
    for i, prompt in enumerate(PROMPTS):
        desk.submit(str(i), prompt)
        for _ in range(3):
            desk.engine.step()
    desk.work()
    assert [desk.tokens(str(i)) for i in range(len(PROMPTS))] == expected
    assert next(e.id for e in desk.said if isinstance(e, Completed)) == "0"


@pytest.mark.parametrize("limits", [{"slots": 2}, {"cache_bytes": 0}, {"cache_bytes": 3 * BLOCK * 256}, {"slots_bytes": 520 * 256}])
def test_tight_limits_change_no_answer(tiny_model, expected, limits):
    desk = Desk(tiny_model, **limits)
    assert desk.engine._slots.shape.token_bytes == 256
    assert desk.ask(PROMPTS) == expected


def test_a_known_beginning_is_not_read_again(desk, expected):
    desk.ask(PROMPTS[3:4])
    steps = desk.engine.stats("").steps
    desk.submit("again", PROMPTS[4])
    desk.work()
    assert desk.tokens("again") == expected[4]
    (done,) = desk.of(Completed, "again")
    assert done.cached_tokens == len(COMMON) // BLOCK * BLOCK
    assert (done.prompt_tokens, done.completion_tokens) == (len(PROMPTS[4]), 20)
    assert desk.engine.stats("").steps == steps + 20


def test_an_answer_is_part_of_the_next_turns_known_beginning(desk):
    desk.submit("first", COMMON, sampling=GREEDY.model_copy(update={"max_tokens": 3 * BLOCK}))
    desk.work()
    desk.submit("second", COMMON + desk.tokens("first") + [9])
    desk.work()
    assert desk.of(Completed, "second")[0].cached_tokens == (len(COMMON) + 3 * BLOCK - 1) // BLOCK * BLOCK


@pytest.fixture(scope="module")
def adapters(tiny_model, tmp_path_factory):
    folders = {}
    for name, targets, rank in (("a", ["q_proj", "up_proj"], 4), ("b", ["v_proj", "down_proj", "gate_proj"], 2)):
        torch.manual_seed(len(folders))
        base = AutoModelForCausalLM.from_pretrained(str(tiny_model), dtype=torch.float32)
        config = LoraConfig(r=rank, lora_alpha=16, target_modules=targets, init_lora_weights=False)
        tuned = get_peft_model(base, config)
        folder = tmp_path_factory.mktemp("adapters") / name
        tuned.save_pretrained(str(folder))
        tuned.generation_config.eos_token_id = None
        wanted = []
        for prompt in PROMPTS:
            ids = torch.tensor([prompt])
            whole = tuned.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False)
            wanted.append(whole[0, len(prompt) :].tolist())
        folders[str(folder)] = wanted
    return folders


@pytest.mark.usefixtures("sharing")
def test_adapters_and_the_base_in_one_batch_each_as_peft_answers(desk, adapters, expected):
    wanted = {None: expected} | adapters
    assert len({str(answers) for answers in wanted.values()}) == 3
    for i, prompt in enumerate(PROMPTS):
        for folder in wanted:
            desk.submit(f"{i} {folder}", prompt, adapter=folder)
    desk.work()
    for folder, answers in wanted.items():
        assert [desk.tokens(f"{i} {folder}") for i in range(len(PROMPTS))] == answers


def test_an_adapter_written_anew_is_read_anew(desk, adapters, tmp_path):
    one, other = adapters
    folder = tmp_path / "changing"
    for step, source in enumerate((one, other)):
        folder.mkdir(exist_ok=True)
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            (folder / file).write_bytes((type(folder)(source) / file).read_bytes())
        desk.submit(f"{step}", PROMPTS[3], adapter=str(folder))
        desk.work()
        assert desk.tokens(f"{step}") == adapters[source][3]


def test_a_missing_adapter_is_declined_and_the_engine_lives_on(desk, expected, tmp_path):
    desk.submit("wrong", PROMPTS[0], adapter=str(tmp_path))
    (declined,) = desk.of(Declined, "wrong")
    assert declined.code == "model_unavailable"
    assert desk.ask(PROMPTS[:1]) == expected[:1]


def test_cancelling_frees_the_slot_and_says_nothing_more(tiny_model, expected):
    desk = Desk(tiny_model, slots=1)
    desk.submit("endless", PROMPTS[1], sampling=LiveSampling(temperature=0, ignore_end=True))
    desk.submit("waits", PROMPTS[0])
    desk.submit("waits too", PROMPTS[2])
    for _ in range(5):
        desk.engine.step()
    told = len(desk.said)
    desk.engine.cancel("endless")
    desk.engine.cancel("waits too")
    desk.engine.cancel("unknown")
    desk.work()
    assert {e.id for e in desk.said[told:]} == {"waits"}
    assert desk.tokens("waits") == expected[0]
    assert desk.engine.stats("").active == desk.engine.stats("").waiting == 0


def test_a_full_queue_is_told_when_to_come_again(tiny_model):
    desk = Desk(tiny_model, slots=1, waiting=2)
    for name in "abcd":
        desk.submit(name, PROMPTS[0])
    assert [e.id for e in desk.said if isinstance(e, Declined)] == ["c", "d"]
    (declined,) = desk.of(Declined, "d")
    assert declined.code == "overloaded"
    assert declined.retry_after_s >= 1
    desk.work()
    assert {e.id for e in desk.said if isinstance(e, Completed)} == {"a", "b"}


def test_chats_are_rendered_as_for_training_and_streamed_text_is_the_whole_text(desk, tiny_model):
    chat = (user("How many people live in Zürich? 🏔 " * 3),)
    renderer = Renderer.of(tiny_model)
    desk.submit("chat", ChatPrompt(messages=chat), sampling=LiveSampling(max_tokens=60, temperature=0, ignore_end=True))
    desk.submit("same", renderer.prompt_tokens(chat), sampling=LiveSampling(max_tokens=60, temperature=0, logprobs=0, ignore_end=True))
    desk.work()
    assert desk.text("chat") == renderer.decode(desk.tokens("same"))
    assert len(desk.of(Piece, "chat")) > 5


def test_the_stop_token_ends_an_answer_and_is_not_told(tiny_model, expected):
    stop = expected[1][4]
    desk = Desk(tiny_model)
    desk.engine._renderer.stop_ids = frozenset({stop})
    desk.submit("x", PROMPTS[1], sampling=LiveSampling(max_tokens=20, temperature=0, logprobs=0))
    desk.work()
    assert desk.tokens("x") == expected[1][: expected[1].index(stop)]
    assert desk.of(Ended, "x")[0].finish_reason == "stop"


def test_a_stop_sequence_cuts_the_text_where_it_begins(desk):
    desk.submit("free", PROMPTS[1], sampling=LiveSampling(max_tokens=40, temperature=0, ignore_end=True))
    desk.work()
    whole = desk.text("free")
    stop = whole[11:14]
    desk.submit("cut", PROMPTS[1], sampling=LiveSampling(max_tokens=40, temperature=0, ignore_end=True, stop=("never", stop)))
    desk.work()
    assert desk.text("cut") == whole[: whole.index(stop)]
    assert desk.of(Ended, "cut")[0].finish_reason == "stop"


def test_seeds_repeat_and_choices_differ(desk):
    free = LiveSampling(max_tokens=12, temperature=1.5, logprobs=0, seed=7, ignore_end=True)
    for name in ("one", "two"):
        desk.submit(name, PROMPTS[3], sampling=free, n=3)
        desk.work()
    first, second = ([desk.tokens(name, i) for i in range(3)] for name in ("one", "two"))
    assert first == second
    assert len({str(tokens) for tokens in first}) == 3
    assert len(desk.of(Ended, "one")) == 3
    assert desk.of(Completed, "one")[0].completion_tokens == 36


def test_a_tiny_nucleus_is_greedy(desk, expected):
    assert desk.ask(PROMPTS[:2], sampling=LiveSampling(max_tokens=20, temperature=1, top_p=1e-6, logprobs=0, ignore_end=True)) == expected[:2]


def test_bias_and_penalties(desk):
    desk.submit("biased", PROMPTS[0], sampling=GREEDY.model_copy(update={"logit_bias": {77: 100.0}, "max_tokens": 5}))
    desk.submit("varied", PROMPTS[0], sampling=GREEDY.model_copy(update={"presence_penalty": 1000.0}))
    desk.work()
    assert desk.tokens("biased") == [77] * 5
    assert len(set(desk.tokens("varied"))) == 20


def test_echoed_prompts_carry_the_models_own_log_probabilities(desk, tiny_model):
    prompt = PROMPTS[5]
    desk.ask([prompt])  # known beginnings must not hide any token's probability
    desk.submit("e", prompt, sampling=LiveSampling(max_tokens=1, temperature=0, logprobs=2, ignore_end=True), echo=True)
    desk.work()
    told = [t for p in desk.of(Piece, "e") for t in p.tokens]
    assert [t.token for t in told][: len(prompt)] == prompt
    assert len(told) == len(prompt) + 1
    model = AutoModelForCausalLM.from_pretrained(str(tiny_model), dtype=torch.float32)
    with torch.no_grad():
        logprobs = model(torch.tensor([prompt])).logits[0].log_softmax(-1)
    assert told[0].logprob is None
    for at, token in enumerate(told[1:], 1):
        assert token.logprob == pytest.approx(float(logprobs[at - 1, token.token]), abs=1e-4)
        assert token.logprob in [t.logprob for t in token.top if t.token == token.token]
        assert token.top[0].logprob == pytest.approx(float(logprobs[at - 1].max()), abs=1e-4)
    assert desk.text("e").startswith(desk.engine._vocabulary.decode(prompt, markup=True))


def test_no_tokens_wanted(desk):
    desk.submit("none", PROMPTS[1], sampling=LiveSampling(max_tokens=0))
    desk.work()
    assert desk.tokens("none") == []
    assert desk.of(Ended, "none")[0].finish_reason == "length"


SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Basel", "Zürich"]}, "people": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["city", "people"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_is_held_to_a_schema(desk, temperature):
    sampling = LiveSampling(max_tokens=100, temperature=temperature, seed=3)
    desk.submit("j", ChatPrompt(messages=(user("Where?"),)), sampling=sampling, format=JsonFormat(schema=SCHEMA), n=3)
    desk.submit("free", PROMPTS[1])
    desk.work()
    for index in range(3):
        text = "".join(p.text for p in desk.of(Piece, "j") if p.index == index)
        Draft202012Validator(SCHEMA).validate(json.loads(text))
    assert {e.finish_reason for e in desk.of(Ended, "j")} == {"stop"}


def test_a_schema_that_cannot_be_enforced_is_declined(desk):
    desk.submit("j", PROMPTS[0], format=JsonFormat(schema={"type": "no such type"}))
    assert desk.of(Declined, "j")[0].code == "bad_data"


def test_prompts_that_do_not_fit(desk):
    desk.submit("long", list(range(3, 300)) * 2)
    desk.submit("far", PROMPTS[0], sampling=LiveSampling(max_tokens=510))
    desk.submit("strange", [5, 100_000])
    desk.submit("empty", [])
    assert [e.code for e in desk.said] == ["context_length_exceeded"] * 2 + ["bad_data"] * 2
    desk.submit("text", TextPrompt(text=""), sampling=LiveSampling(max_tokens=2, temperature=0, ignore_end=True))
    desk.work()
    assert desk.of(Completed, "text")[0].prompt_tokens == 1


def test_without_a_limit_an_answer_ends_with_the_context(desk):
    desk.submit("x", PROMPTS[0], sampling=LiveSampling(temperature=0, ignore_end=True, logprobs=0))
    desk.work()
    assert len(desk.tokens("x")) == 512 - len(PROMPTS[0])
    assert desk.of(Ended, "x")[0].finish_reason == "length"

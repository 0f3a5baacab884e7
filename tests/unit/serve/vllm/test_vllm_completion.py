"""What vLLM is asked for."""
import json

import pytest

from feinschliff.core.chat import user
from feinschliff.core.live import ChatPrompt, JsonFormat, Limits, LiveSampling, Submit
from feinschliff.data.render import Renderer
from feinschliff.serve.vllm.engine import LAYOUT, completion, prompts_of
from feinschliff.serve.vllm.server import Vllm, command, environment

CHAT = ChatPrompt(messages=(user("How many?"),))


@pytest.fixture(scope="module")
def prompts(tiny_model):
    return prompts_of(tiny_model)


def asked(prompts, **more):
    request = Submit(**({"id": "a", "prompt": CHAT} | more))
    tokens, limit = prompts.admit(request)
    return json.loads(completion(request, tokens, limit, "base", prompts).model_dump_json(by_alias=True, exclude_none=True))


def test_a_chat_goes_as_the_tokens_of_the_renderer_and_goes_on_to_the_end_of_the_context(prompts, tiny_model):
    body = asked(prompts)
    assert body["prompt"] == Renderer.of(tiny_model).prompt_tokens(CHAT.messages)
    assert body["max_tokens"] == 512 - len(body["prompt"])
    assert body["stop_token_ids"] == sorted(prompts.renderer.stop_ids)
    assert (body["model"], body["stream"], body["return_token_ids"], body["return_tokens_as_token_ids"]) == ("base", True, True, True)
    assert not {"seed", "logprobs", "logit_bias", "structured_outputs"} & body.keys()


def test_an_answer_that_has_to_begin_somehow_begins_in_the_prompt(prompts):
    begun = CHAT.model_copy(update={"begun": "The number"})
    assert asked(prompts, prompt=begun)["prompt"] == asked(prompts)["prompt"] + prompts.vocabulary.encode_plain("The number")


def test_several_greedy_choices_are_one_and_drawn_ones_are_several(prompts):
    assert asked(prompts, n=3, sampling=LiveSampling(temperature=0))["n"] == 1
    assert asked(prompts, n=3, sampling=LiveSampling(temperature=0.5, seed=4)).items() >= {"n": 3, "temperature": 0.5, "seed": 4}.items()


def test_a_schema_comes_with_a_layout_that_does_not_wander(prompts):
    wanted = {"type": "object", "properties": {"n": {"type": "integer"}}}
    body = asked(prompts, format=JsonFormat(schema=wanted))
    assert body["structured_outputs"] == {"json": wanted | {"x-guidance": LAYOUT}}


def test_going_past_the_end_and_biases_of_tokens_that_are_not_there(prompts):
    body = asked(prompts, sampling=LiveSampling(ignore_end=True, logit_bias={3: 1.0, 1_000_000: 1.0}, stop=("", "x")))
    assert (body["ignore_eos"], body["stop_token_ids"], body["logit_bias"], body["stop"]) == (True, [], {"3": 1.0}, ["x"])


def test_prompts_are_echoed_by_vllm_only_for_their_log_probabilities(prompts):
    assert asked(prompts, echo=True)["echo"] is False
    assert asked(prompts, echo=True, sampling=LiveSampling(logprobs=0)).items() >= {"echo": True, "logprobs": 0}.items()


def test_calls_keep_their_markup(prompts):
    assert asked(prompts, markup=True)["skip_special_tokens"] is False


def test_the_operators_options_come_last_and_vllm_gets_neither_our_packages_nor_our_keys(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/ours")
    keys = ("FEINSCHLIFF_ADMIN_KEY", "OPENAI_API_KEY", "VLLM_API_KEY")
    for name in keys:
        monkeypatch.setenv(name, "secret")
    other = Vllm(tmp_path / "bin" / "python", ("--max-lora-rank", "64"))
    assert command(other, tmp_path, tmp_path / "s", Limits())[-2:] == ["--max-lora-rank", "64"]
    found = environment(other, Limits(cache_bytes=1, slots_bytes=1 << 30))
    assert not {"PYTHONPATH", *keys} & found.keys()
    assert (found["VLLM_CPU_KVCACHE_SPACE"], found["PATH"].split(":")[0]) == ("2", str(tmp_path / "bin"))
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "7")
    assert environment(other, Limits())["VLLM_CPU_KVCACHE_SPACE"] == "7"

"""The pass through the kernels: attention as torch's, whole models as in float32, answers the same alone and in company."""
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from feinschliff.core.jobs import Lora
from feinschliff.core.live import Limits, LiveSampling, Piece, Submit, TokenPrompt
from feinschliff.nn import adapter
from feinschliff.nn.model import load
from feinschliff.nn.native import build
from feinschliff.nn.native.kernels import HEAD_DIMS
from feinschliff.serve.live.attend import Part, Shared, StepAttend
from feinschliff.serve.live.engine import LiveEngine
from feinschliff.serve.live.forward import look
from feinschliff.serve.live.kv import KvShape, Slots
from feinschliff.serve.live.layers import Layers
from feinschliff.serve.live.native.forward import Heads, fits
from feinschliff.serve.live.native.kernels import SOURCES, loaded
from feinschliff.serve.live.native.products import NativeProduct
from tiny import make_tiny_tokenizer

pytestmark = pytest.mark.skipif(loaded() is None, reason="no kernels: they need AVX-512 with bfloat16 and a C compiler")
PROMPT = [(7 * i) % 300 + 10 for i in range(150)]


@pytest.fixture(scope="module", params=[(LlamaConfig, LlamaForCausalLM), (Qwen2Config, Qwen2ForCausalLM)], ids=["llama", "qwen2"])
def model(request, tmp_path_factory):
    """A tiny one of shapes that the kernels know; Qwen2 has biases."""
    folder, tokenizer = tmp_path_factory.mktemp("model"), make_tiny_tokenizer()
    config_of, model_of = request.param
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    model = model_of(
        config_of(
            vocab_size=len(tokenizer), hidden_size=128, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, **ids,
        )
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 1.0 if "embed" in name else 0.1) if parameter.ndim == 2 else parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def answers(engine, said, requests):
    """(tokens, log-probabilities) of each."""
    said.clear()
    for i, (prompt, folder) in enumerate(requests):
        sampling = LiveSampling(max_tokens=12, temperature=0, ignore_end=True, logprobs=0)
        engine.submit(Submit(id=str(i), prompt=TokenPrompt(tokens=tuple(prompt)), adapter=folder, sampling=sampling))
    while engine.step():
        pass
    told = [[t for p in said if isinstance(p, Piece) and p.id == str(i) for t in p.tokens] for i in range(len(requests))]
    return [[(t.token, t.logprob) for t in tokens] for tokens in told]


def an_adapter(model, folder, *, seed, dora=False):
    decoder = load(model, dtype=torch.float32, trainable=False)
    method = Lora(rank=4, alpha=8.0, dora=dora)
    adapter.add(decoder, method, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for place in adapter.places(decoder):
            for part in place.parameters.values():
                part.add_(torch.randn(part.shape, generator=generator) * 0.1)
    adapter.save(folder, adapter.current(decoder), method, str(model))
    return str(folder)


@pytest.mark.parametrize("window", [None, 50])
@pytest.mark.parametrize("d", HEAD_DIMS)
def test_attention_is_that_of_torch(d, window):
    generator = torch.Generator().manual_seed(d)
    parts = [Part(2, 150, 1), Part(0, 140, 1), Part(3, 107, 1), Part(1, 149, 1), Part(4, 37, 20), Part(5, 3, 90)]
    shared = Shared(100, ((0, 1, 2), (3,)))
    plain, rounded = (Slots(KvShape(1, 2, d, dtype)) for dtype in (torch.float32, torch.bfloat16))
    for slots in (plain, rounded):
        slots.fit(6, 160)
    known = torch.randn(plain.data.shape, generator=generator).bfloat16()
    known[:, :, 1:3, :, :100] = known[:, :, :1, :, :100]
    plain.data.copy_(known)
    rounded.data.copy_(known)
    T = sum(p.n for p in parts)
    qkv = torch.randn(T, (6 + 2 * 2) * d, generator=generator).bfloat16().float()
    q, k, v = (x.transpose(0, 1) for x in qkv.view(T, 10, d).split([6, 2, 2], 1))
    wanted = StepAttend(plain, parts, None)(0, q, k, v, scale=d**-0.5, window=window, softcap=None)
    for grouped in (None, shared):
        heads = Heads(loaded(), StepAttend(rounded, parts, grouped), T, qkv.shape[1])
        got = heads(0, qkv, torch.ones(T, d // 2), torch.zeros(T, d // 2), d**-0.5, window)
        torch.testing.assert_close(got.float(), wanted.flatten(1), rtol=2e-2, atol=2e-2)
    assert torch.equal(rounded.data.float(), plain.data)


def test_it_is_nearer_to_exact_than_torch_in_bfloat16(model, monkeypatch):
    def measured(dtype):
        engine = LiveEngine(model, lambda event: None, dtype=dtype)
        slots = Slots(engine._slots.shape)
        slots.fit(1, 150)
        with torch.inference_mode():
            engine._adapters.use([None] * 150)
            return engine.native, engine._forward(torch.tensor(PROMPT), torch.arange(150), StepAttend(slots, [Part(0, 0, 150)])).float()

    exact_native, exact = measured(torch.float32)
    native, got = measured(torch.bfloat16)
    monkeypatch.setattr("feinschliff.serve.live.native.open.loaded", lambda: None)
    other_native, other = measured(torch.bfloat16)
    assert (exact_native, native, other_native) == (False, True, False)
    assert float((got - exact).norm()) < 0.02 * float(exact.norm())
    assert float((got - exact).norm()) < 1.1 * float((other - exact).norm())


def test_company_changes_no_answer(model, tmp_path):
    tuned = [an_adapter(model, tmp_path / str(seed), seed=seed, dora=seed == 2) for seed in (1, 2)]
    requests = [(PROMPT[: 20 + 9 * i], [None, *tuned][i % 3]) for i in range(9)]
    said = []
    engine = LiveEngine(model, said.append, limits=Limits(cache_bytes=0))
    alone = [answers(engine, said, [request])[0] for request in requests]
    together = answers(engine, said, requests)
    assert engine.native
    for one, other in zip(alone, together, strict=True):
        assert [token for token, _ in other] == [token for token, _ in one]
        assert [p for _, p in other] == pytest.approx([p for _, p in one], abs=0.02)
    assert len({tuple(token for token, _ in answer) for answer in alone}) > 3


def test_embeddings_stored_in_bfloat16_stay_so(model, tmp_path):
    stored = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    stored.save_pretrained(tmp_path)
    make_tiny_tokenizer().save_pretrained(tmp_path)
    wide, narrow = (LiveEngine(folder, lambda event: None) for folder in (model, tmp_path))
    embeddings = stored.get_input_embeddings().weight.numel()
    assert narrow.native
    assert wide.ready().weights_bytes - narrow.ready().weights_bytes == 2 * embeddings
    with torch.inference_mode():
        slots = Slots(narrow._slots.shape)
        slots.fit(1, 150)
        for engine in (wide, narrow):
            engine._adapters.use([None] * 150)
        ask = torch.tensor(PROMPT), torch.arange(150), StepAttend(slots, [Part(0, 0, 150)])
        torch.testing.assert_close(narrow._forward(*ask), wide._forward(*ask), rtol=0.1, atol=0.3)


def test_layers_of_unlike_widths_are_left_to_torch(model):
    decoder = load(model, dtype=torch.bfloat16, trainable=False)
    _, asked = look(decoder)
    layers = Layers.of(decoder, asked, [NativeProduct(p, i) for i, p in enumerate(decoder.products())])
    assert fits(layers)
    layers.each[1].qkv.n_out += 32  # one more query head than the first layer has
    assert not fits(layers)


def test_without_a_compiler_there_are_no_kernels(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert build.library.__wrapped__(*SOURCES) is None


def test_a_compiler_that_fails_leaves_torch(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "FLAGS", ("-no-such-flag",))
    assert build.library.__wrapped__(*SOURCES) is None


def test_they_can_be_switched_off(monkeypatch):
    monkeypatch.setenv(build.SWITCH, "0")
    assert build.library.__wrapped__(*SOURCES) is None

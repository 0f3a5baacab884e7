import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from feinschliff.core.chat import Rendered, user
from feinschliff.core.engine import Generate, Sampling
from feinschliff.core.errors import BadData, ModelUnavailable
from feinschliff.core.jobs import Lora, TrainSpec
from feinschliff.data.render import Renderer
from feinschliff.nn.attention import TreeAttend
from feinschliff.nn.tree import pack
from feinschliff.serve.chat import ChatEngine
from feinschliff.train.model import Trainable

CHATS = tuple((user(f"How many people live in {city}?"),) for city in ("Basel", "Bern", "Chur"))


def silent(done: int) -> None:
    pass


def ask(engine, adapter=None, chats=CHATS, max_tokens=12):
    return engine.answer(
        Generate(id=7, conversations=chats, adapter=adapter, sampling=Sampling(max_tokens=max_tokens)), silent
    )


def texts(replies):
    return [r.text for r in replies.replies]


@pytest.fixture(scope="module")
def engine(tiny_model):
    return ChatEngine(tiny_model, torch.float32)


@pytest.mark.parametrize("dora", [False, True])
def test_adapter_is_applied_and_taken_off_again(engine, tiny_model, tmp_path, dora):
    before = texts(ask(engine))
    base = AutoModelForCausalLM.from_pretrained(str(tiny_model), dtype=torch.float32)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "up_proj"], init_lora_weights=False, use_dora=dora)
    tuned = get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "magnitude" in name:
                parameter.mul_(1 + 0.5 * torch.rand(len(parameter)))
    tuned.save_pretrained(str(tmp_path))
    renderer = Renderer.of(tiny_model)
    wanted = []
    for chat in CHATS:
        ids = torch.tensor([renderer.prompt_tokens(chat)])
        out = tuned.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        wanted.append(renderer.decode(out[0, ids.shape[1] :].tolist()))
    assert texts(ask(engine, str(tmp_path))) == wanted
    assert wanted != before
    assert texts(ask(engine)) == before


def test_a_base_in_four_bits_answers_as_qlora_trained_it(tiny_model, tmp_path):
    spec = TrainSpec(model=str(tiny_model), train_files=("-",), method=Lora(kind="qlora", rank=4, alpha=16))
    trained = Trainable.make(spec, tiny_model, torch.float32)
    with torch.no_grad():
        for parameter in trained.parameters().values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    trained.after_update()
    trained.save(tmp_path / "adapter")
    engines = [ChatEngine(tiny_model, torch.float32, quantised=quantised) for quantised in (True, False)]
    packed = pack([Rendered([5, 6, 7, 8, 9], [0.0] * 4 + [1.0])])
    states = []
    for engine in engines:
        ask(engine, str(tmp_path / "adapter"))
        states.append(hidden(engine._decoder, packed))
    assert torch.equal(states[0], hidden(trained.decoder, packed))
    assert not torch.allclose(states[1], states[0], rtol=0.01)  # on the base as it is


@torch.no_grad()
def hidden(decoder, packed):
    return decoder.hidden(packed.tokens_T, packed.positions_T, TreeAttend(packed))


def test_an_adapter_that_cannot_be_had_changes_nothing(engine, tmp_path):
    before = texts(ask(engine))
    with pytest.raises(ModelUnavailable):
        ask(engine, str(tmp_path / "none"))
    assert texts(ask(engine)) == before


def test_counts_are_the_models_own(engine, tiny_model):
    renderer = Renderer.of(tiny_model)
    replies = ask(engine)
    assert replies.id == 7
    assert [r.input_tokens for r in replies.replies] == [len(renderer.prompt_tokens(c)) for c in CHATS]
    assert all(r.output_tokens <= 12 for r in replies.replies)


def test_a_prompt_without_room_for_an_answer_is_refused_by_its_number(engine):
    with pytest.raises(BadData, match="Conversation 2 has"):
        ask(engine, chats=(CHATS[0], (user("long " * 300),)))
    ask(engine)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ModelUnavailable, match=r"tokenizer\.json"):
        ChatEngine(tmp_path)

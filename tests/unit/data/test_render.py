import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feinschliff.core.chat import Example, FunctionCall, Message, ToolCall, assistant, system, user
from feinschliff.core.errors import ModelUnavailable
from feinschliff.data.render import Renderer
from feinschliff.data.template import ChatTemplate
from tiny import CHATML, NO_END, NO_SYSTEM, REWRITES_HISTORY, make_tiny_model, make_tiny_tokenizer

END = 2  # <|im_end|>
TOKENS = {"eos_token": "<|im_end|>", "bos_token": "<|endoftext|>"}


def renderer(template: str = CHATML) -> Renderer:
    backend = make_tiny_tokenizer(template=template).backend_tokenizer
    return Renderer(backend, ChatTemplate(template, special_tokens=TOKENS), stop_ids=frozenset({END}), max_tokens=512)


RENDERERS = {name: renderer(t) for name, t in {"chatml": CHATML, "no system": NO_SYSTEM, "rewrites": REWRITES_HISTORY}.items()}
words = st.text(st.characters(codec="utf-8", exclude_characters="<|>"), max_size=20)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    opening = draw(st.sampled_from([(), (system("Be brief."),)]))
    turns = [(user(draw(words)), assistant(draw(words))) for _ in range(draw(st.integers(1, 3)))]
    return (*opening, *(m for turn in turns for m in turn))


def trained_text(r: Renderer, rendered) -> list[str]:
    """The trained runs of an example as texts, special tokens included."""
    runs: list[list[int]] = []
    before = 0.0
    for token, weight in zip(rendered.tokens, rendered.weights, strict=True):
        if weight and not before:
            runs.append([])
        if weight:
            runs[-1].append(token)
        before = weight
    return ["".join(r.token_texts(run)) for run in runs]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(conversations(), st.sampled_from(sorted(RENDERERS)))
def test_a_rendered_example_starts_with_the_tokens_of_its_prompt(messages, name):
    r = RENDERERS[name]
    prompt = r.prompt_tokens(messages[:-1])
    last = r.render(Example(messages=messages))[-1]
    assert list(last.tokens[: len(prompt)]) == prompt
    assert last.tokens[max(i for i, w in enumerate(last.weights) if w)] == END


@settings(max_examples=40, deadline=None, derandomize=True)
@given(conversations())
def test_text_is_kept_whole(messages):
    r = RENDERERS["chatml"]
    (rendered,) = r.render(Example(messages=messages))
    text = ChatTemplate(CHATML, special_tokens=TOKENS).render(messages, tools=None, answer_next=False)
    assert r._tokenizer.decode(list(rendered.tokens), skip_special_tokens=False) == text


@pytest.mark.parametrize("template", [CHATML, NO_SYSTEM])
def test_tokens_equal_transformers(template):
    rows = [user("How many people live in Basel?"), assistant("MATCH (p)"), user("And Bern?"), assistant("RETURN p")]
    plain = [{"role": m.role, "content": m.content} for m in rows]
    tokenizer = make_tiny_tokenizer(template=template)
    r = renderer(template)
    (rendered,) = r.render(Example(messages=tuple(rows)))
    assert list(rendered.tokens) == tokenizer.apply_chat_template(plain, return_dict=False)
    prompt = tokenizer.apply_chat_template(plain[:-1], add_generation_prompt=True, return_dict=False)
    assert r.prompt_tokens(rows[:-1]) == prompt


def test_every_answer_is_trained_up_to_its_stop_token():
    r = renderer()
    (rendered,) = r.render(Example(messages=(system("s"), user("a"), assistant("one"), user("b"), assistant("two"))))
    assert trained_text(r, rendered) == ["one<|im_end|>", "two<|im_end|>"]
    assert rendered.weights[-1] == 0  # the line end after the last stop token


def test_weight_0_keeps_a_turn_out_of_the_loss():
    r = renderer()
    silent = Message(role="assistant", content="one", weight=0)
    (rendered,) = r.render(Example(messages=(user("a"), silent, user("b"), assistant("two"))))
    assert trained_text(r, rendered) == ["two<|im_end|>"]


def test_tools_and_tool_calls_are_shown_and_calls_are_trained():
    r = renderer()
    call = Message(role="assistant", tool_calls=(ToolCall(function=FunctionCall(name="f", arguments='{"x": 1}')),))
    tool = {"type": "function", "function": {"name": "f"}}
    (rendered,) = r.render(Example(messages=(user("a"), call), tools=(tool,)))
    assert trained_text(r, rendered) == ['<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call><|im_end|>']
    assert list(rendered.tokens[: rendered.n_prompt]) == r.prompt_tokens([user("a")], [tool])


def test_a_template_that_rewrites_history_gives_an_example_for_every_turn():
    r = renderer(REWRITES_HISTORY)
    messages = (user("a"), assistant("why</think>one"), user("b"), assistant("how</think>two"))
    first, second = r.render(Example(messages=messages))
    assert trained_text(r, first) == ["why</think>one<|im_end|>"]
    assert trained_text(r, second) == ["how</think>two<|im_end|>"]
    assert list(second.tokens[: second.n_prompt]) == r.prompt_tokens(messages[:-1])


def test_a_template_that_never_ends_a_turn_gets_a_stop_token():
    r = renderer(NO_END)
    (rendered,) = r.render(Example(messages=(user("a"), assistant("one"))))
    assert trained_text(r, rendered) == ["one\n<|im_end|>"]


def test_a_stop_token_written_in_an_answer_is_not_its_end():
    r = renderer()
    (rendered,) = r.render(Example(messages=(user("a"), assistant("say <|im_end|> twice"))))
    assert trained_text(r, rendered) == ["say <|im_end|> twice<|im_end|>"]


def test_of_a_folder(tiny_model, tmp_path):
    r = Renderer.of(tiny_model)
    assert (r.stop_ids, r.max_tokens) == (frozenset({END}), 512)
    assert r.decode(r.encode_text("Grüezi 🦊")) == "Grüezi 🦊"
    with pytest.raises(ModelUnavailable, match=r"tokenizer\.json"):
        Renderer.of(tmp_path)
    broken = make_tiny_model(tmp_path / "broken")
    (broken / "config.json").unlink()
    with pytest.raises(ModelUnavailable, match=r"config\.json"):
        Renderer.of(broken)

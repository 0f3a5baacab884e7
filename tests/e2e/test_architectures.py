"""Every architecture of the catalogue's open models, with its own chat template, from the file to the served answer."""
import json

import pytest
import torch

from families import FAMILIES
from feinschliff.core.chat import user
from feinschliff.core.engine import Generate, Sampling
from feinschliff.core.jobs import Finished, Hyperparameters, Lora, Started, TrainSpec
from feinschliff.core.live import ChatPrompt, Ended, LiveSampling, Piece, Submit
from feinschliff.serve.chat import ChatEngine
from feinschliff.serve.live.engine import LiveEngine
from feinschliff.train.events import EventLog
from feinschliff.train.loop import train

LEARNT = {"People in Basel?": "RETURN 10", "The capital of Chad?": "It is N'Djamena.", "Bern?": "no"}


def trained(folder, model):
    """A run that learns LEARNT by heart, and its events."""
    rows = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in LEARNT.items()]
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    spec = TrainSpec(
        model=str(model), train_files=("train.jsonl",), method=Lora(rank=8, alpha=16), precision="fp32", budget_tokens=2048,
        gradient_checkpointing=False, hyperparameters=Hyperparameters(n_epochs=50, batch_size=3, learning_rate=0.02), save_every_steps=100,
    )  # fmt: skip
    (folder / "spec.json").write_text(spec.model_dump_json(), encoding="utf-8")
    train(folder, spec)
    return EventLog(folder / "events.jsonl", writes=False).read()


def served(model, adapter):
    """What the service's engine answers, all questions at once."""
    said = []
    engine = LiveEngine(model, said.append, dtype=torch.float32)
    for question in LEARNT:
        prompt = ChatPrompt(messages=(user(question),))
        engine.submit(Submit(id=question, prompt=prompt, adapter=str(adapter), sampling=LiveSampling(max_tokens=40, temperature=0)))
    while engine.step():
        pass
    assert {e.finish_reason for e in said if isinstance(e, Ended)} == {"stop"}
    return {q: "".join(e.text for e in said if isinstance(e, Piece) and e.id == q) for q in LEARNT}


@pytest.mark.parametrize("family", FAMILIES)
def test_from_the_file_to_the_answer(family, tmp_path):
    model = FAMILIES[family].make_model(tmp_path / "model")
    events = trained(tmp_path / "run", model)
    assert isinstance(events[0], Started)
    assert events[0].n_too_long == 0
    assert isinstance(events[-1], Finished)
    assert (tmp_path / "run" / "checkpoints").is_dir()
    adapter = tmp_path / "run" / "model"
    assert {q: a.strip() for q, a in served(model, adapter).items()} == {q: a.strip() for q, a in LEARNT.items()}
    asked = Generate(id=1, conversations=tuple((user(q),) for q in LEARNT), adapter=str(adapter), sampling=Sampling(max_tokens=40))
    replies = ChatEngine(model, torch.float32).answer(asked, lambda done: None)
    assert [r.text.strip() for r in replies.replies] == [a.strip() for a in LEARNT.values()]

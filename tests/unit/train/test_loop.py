"""The loop in this process; the real program is started in test_train_program.py."""
import pytest
import torch
from peft import PeftModel
from runs import chats, make_run, result, steps, write_chats
from transformers import AutoModelForCausalLM

from feinschliff.core.chat import Rendered
from feinschliff.core.errors import BadData, TrainingFailed
from feinschliff.core.jobs import (
    Checkpoint,
    Finished,
    Full,
    Hyperparameters,
    Lora,
    MatrixSpeed,
    Started,
    Validation,
)
from feinschliff.data.render import Renderer
from feinschliff.nn import attention, multiply
from feinschliff.nn.attention import TreeAttend, attention_by_kernels
from feinschliff.nn.model import load
from feinschliff.nn.multiply import has_onednn
from feinschliff.nn.native.kernels import loaded
from feinschliff.nn.tree import pack
from feinschliff.train import device, machine, memory
from feinschliff.train.events import EventLog
from feinschliff.train.examples import load as load_examples
from feinschliff.train.loop import _Run, train
from feinschliff.train.model import Trainable
from tiny import make_tiny_model

SHORT = Hyperparameters(n_epochs=1, batch_size=4, learning_rate=0.02)


def events(folder):
    return EventLog(folder / "events.jsonl").read()


def test_loss_falls_and_every_kind_of_event_is_told(tiny_model, tmp_path):
    run, spec = make_run(tmp_path / "run", tiny_model, validation_file="train.jsonl")
    train(run, spec)
    told = events(run)
    assert isinstance(told[0], Started)
    assert isinstance(told[-1], Finished)
    losses = [s.train_loss for s in steps(run)]
    assert [s.step for s in steps(run)] == list(range(1, 13))
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    valid = [e.valid_loss for e in told if isinstance(e, Validation)]
    assert len(valid) == 4
    assert valid[-1] < valid[0]
    assert [e.step for e in told if isinstance(e, Checkpoint)] == [3, 6, 9]
    assert all((run / e.path / "adapter_model.safetensors").is_file() for e in told if isinstance(e, Checkpoint))
    assert told[-1].trained_tokens == sum(s.trained_tokens for s in steps(run))
    assert all(s.computed_tokens < s.logical_tokens for s in steps(run) if s.trained_tokens)


def test_a_finished_run_returns_at_once(tiny_model, tmp_path):
    run, spec = make_run(tmp_path / "run", tiny_model, hyperparameters=SHORT)
    train(run, spec)
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()}
    train(run, spec)
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()} == before


class Killed(BaseException):
    pass


def train_until_killed(run, spec, killed_at, monkeypatch):
    """Killed between writing the step's event and saving its state: the worst moment."""
    save = _Run._save_if_due

    def die(self, step, total):
        if step == killed_at:
            raise Killed
        save(self, step, total)

    with monkeypatch.context() as patch:
        patch.setattr(_Run, "_save_if_due", die)
        with pytest.raises(Killed):
            train(run, spec)


@pytest.mark.parametrize("killed_at", range(1, 13, 2))
def test_stopping_after_any_step_changes_nothing(tiny_model, tmp_path, monkeypatch, killed_at):
    whole, spec = make_run(tmp_path / "whole", tiny_model)
    train(whole, spec)
    cut, spec = make_run(tmp_path / "cut", tiny_model)
    train_until_killed(cut, spec, killed_at, monkeypatch)
    train(cut, spec)
    assert result(cut) == result(whole)
    by_step = {s.step: s.train_loss for s in steps(cut)}  # later ones count
    assert by_step == {s.step: s.train_loss for s in steps(whole)}
    (told,) = (e for e in events(cut) if isinstance(e, Finished))
    assert told.trained_tokens == sum(s.trained_tokens for s in steps(whole))


@pytest.mark.skipif(loaded() is None, reason="no kernels: they need AVX-512 with bfloat16 and a C compiler")
def test_stopping_a_run_through_the_kernels_changes_nothing(tmp_path, monkeypatch):
    model = make_tiny_model(tmp_path / "model", "llama-wide")
    calls = []

    def watched(*arguments, **options):
        calls.append(arguments)
        return attention_by_kernels(*arguments, **options)

    monkeypatch.setattr(attention, "attention_by_kernels", watched)
    whole, spec = make_run(tmp_path / "whole", model, precision="bf16")
    train(whole, spec)
    assert len(calls) == 2 * 12  # layers, steps
    cut, spec = make_run(tmp_path / "cut", model, precision="bf16")
    train_until_killed(cut, spec, 5, monkeypatch)
    train(cut, spec)
    assert result(cut) == result(whole)
    exact, spec = make_run(tmp_path / "exact", model)
    train(exact, spec)
    for ours, wanted in zip(steps(whole), steps(exact), strict=True):
        assert ours.train_loss == pytest.approx(wanted.train_loss, rel=0.03)


def test_a_resumed_run_keeps_how_its_steps_were_cut(tiny_model, tmp_path, monkeypatch):
    """Less memory is free on the second start, and yet the same sums are rounded in the same way."""
    auto = {"budget_tokens": "auto", "gradient_checkpointing": "auto"}
    whole, spec = make_run(tmp_path / "whole", tiny_model, **auto)
    train(whole, spec)
    assert [(e.budget_tokens, e.gradient_checkpointing) for e in events(whole) if isinstance(e, Started)] == [(8192, False)]
    cut, spec = make_run(tmp_path / "cut", tiny_model, **auto)
    with monkeypatch.context() as patch:
        patch.setattr(_Run, "_finish", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            train(cut, spec)
    for state in (cut / "state").glob("*.pt"):
        assert torch.load(state, weights_only=True)["cut"] == (8192, False)
    monkeypatch.setattr(device, "available_bytes", lambda: 0)
    train(cut, spec)
    assert result(cut) == result(whole)


@pytest.mark.skipif(not has_onednn(), reason="this torch has no oneDNN")
def test_a_resumed_run_keeps_the_library_of_its_products(tiny_model, tmp_path, monkeypatch):
    """The first start found oneDNN faster, the second does not."""
    monkeypatch.setattr(machine, "SMALL", 0)
    runs = {name: make_run(tmp_path / name, tiny_model) for name in ("blas", "whole", "cut")}
    blas, onednn = (MatrixSpeed(bf16=1e9, fp32=1e9, fp32_onednn=x) for x in (1e9, 2e9))

    def die(self, step, total, save=_Run._save_if_due):
        save(self, step, total)
        if step == 5:
            raise Killed

    used: list[int] = []
    monkeypatch.setattr(multiply, "onednn", lambda *given, own=multiply.onednn: used.append(1) or own(*given))
    monkeypatch.setattr(machine, "measure", lambda *_: onednn)
    train(*runs["whole"])
    n_used = len(used)
    with monkeypatch.context() as patch:
        patch.setattr(_Run, "_save_if_due", die)
        with pytest.raises(Killed):
            train(*runs["cut"])
    monkeypatch.setattr(machine, "measure", lambda *_: blas)
    train(*runs["cut"])
    train(*runs["blas"])
    told = {name: [e.fp32_library for e in events(run) if isinstance(e, Started)] for name, (run, _) in runs.items()}
    assert told == {"blas": ["blas"], "whole": ["onednn"], "cut": ["onednn", "onednn"]}
    assert result(runs["cut"][0]) == result(runs["whole"][0])
    losses = {name: [s.train_loss for s in steps(run)] for name, (run, _) in runs.items()}
    assert losses["whole"] == pytest.approx(losses["blas"], rel=1e-3)
    assert n_used > 12 * 2 * 7  # steps, forward and back, products of two fused layers


def test_layers_are_recomputed_where_memory_is_short(tmp_path, monkeypatch):
    deep = make_tiny_model(tmp_path / "deep", layers=12)
    whole, spec = make_run(tmp_path / "whole", deep)
    train(whole, spec)
    light, spec = make_run(tmp_path / "light", deep, gradient_checkpointing="auto")
    model = Trainable.make(spec, deep, torch.float32)
    examples = load_examples([light / "train.jsonl"], Renderer.of(deep), 512).variants[0]
    n_tokens = sum(sorted(len(e.tokens) for e in examples)[-4:])
    costs = {on: memory.footprint(model, recomputed=on).needs(n_tokens, n_tokens, n_tokens) for on in (False, True)}
    monkeypatch.setattr(device, "available_bytes", lambda: int((costs[False] + costs[True]) / 2 / memory.SHARE))
    train(light, spec)
    assert next(e.gradient_checkpointing for e in events(light) if isinstance(e, Started))
    assert result(light) == result(whole)


def test_qlora_tells_how_far_its_base_is_from_the_model_and_saves_an_ordinary_adapter(tiny_model, tmp_path):
    run, spec = make_run(tmp_path / "run", tiny_model, method=Lora(kind="qlora", rank=4, alpha=8))
    train(run, spec)
    started = events(run)[0]
    assert isinstance(started, Started)
    assert 0.05 < (started.quantisation_error or 0) < 0.12
    losses = [s.train_loss for s in steps(run)]
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(str(tiny_model)), str(run / "model"))
    assert {type(m).__name__ for m in tuned.modules()} >= {"Linear", "LoraModel"}


def test_over_long_examples_are_counted_named_and_left_out(tiny_model, tmp_path):
    run, spec = make_run(tmp_path / "run", tiny_model, hyperparameters=SHORT, max_tokens=150)
    rows = chats()
    rows[3].insert(1, ("user", "long " * 60))
    del rows[3][2]
    write_chats(run / "train.jsonl", rows)
    train(run, spec)
    started = events(run)[0]
    assert isinstance(started, Started)
    assert (started.n_examples, started.n_too_long, started.too_long_lines) == (11, 1, (4,))


def test_nothing_to_learn_is_an_error(tiny_model, tmp_path):
    run, spec = make_run(tmp_path / "run", tiny_model, max_tokens=5)
    with pytest.raises(TrainingFailed, match="nothing to learn"):
        train(run, spec)


def test_variants_of_different_length_are_an_error(tiny_model, tmp_path):
    run, spec = make_run(tmp_path / "run", tiny_model, train_files=("train.jsonl", "other.jsonl"))
    write_chats(run / "other.jsonl", chats()[:-1])
    with pytest.raises(BadData, match=r"\[11, 12\]"):
        train(run, spec)


def test_variants_are_trained_in_turns(tiny_model, tmp_path):
    run, spec = make_run(tmp_path / "run", tiny_model, train_files=("train.jsonl", "bare.jsonl"))
    write_chats(run / "bare.jsonl", [row[1:] for row in chats()])
    train(run, spec)
    tokens = [s.logical_tokens for s in steps(run)]  # long, bare, long | bare, long, bare | …
    assert [t > sum(tokens) / len(tokens) for t in tokens] == [True, False, True, False, True, False] * 2


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3"])
def test_full_fine_tuning_writes_a_folder_that_transformers_loads(family, tmp_path):
    model = make_tiny_model(tmp_path / family, family)
    run, spec = make_run(tmp_path / "run", model, method=Full(), hyperparameters=SHORT)
    train(run, spec)
    theirs = AutoModelForCausalLM.from_pretrained(str(run / "model"), dtype=torch.float32, attn_implementation="eager")
    ours = load(run / "model", dtype=torch.float32, trainable=False)
    tokens = list(range(5, 50))
    packed = pack([Rendered([*tokens, 0], [0.0] * 45 + [1.0])])
    with torch.no_grad():
        mine = ours.logits(ours.hidden(packed.tokens_T, packed.positions_T, TreeAttend(packed)))
        wanted = theirs(input_ids=torch.tensor([tokens])).logits[0]
        base = AutoModelForCausalLM.from_pretrained(str(model), dtype=torch.float32)(input_ids=torch.tensor([tokens])).logits[0]
    torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(mine, base, atol=1e-2)
    assert {p.name for p in model.iterdir()} <= {p.name for p in (run / "model").iterdir()}


def test_whatever_is_auto_is_resolved_told_and_used(tiny_model, tmp_path):
    auto = Hyperparameters(n_epochs="auto", batch_size="auto", learning_rate="auto", warmup_ratio=0)
    run, spec = make_run(tmp_path / "run", tiny_model, hyperparameters=auto)
    train(run, spec)
    started = events(run)[0]
    assert isinstance(started, Started)
    h = started.hyperparameters
    assert h is not None
    assert (h.n_epochs, h.batch_size, len(h.reasons)) == (8, 1, 3)  # 12 examples
    assert started.total_steps == len(steps(run)) == 96
    assert steps(run)[0].learning_rate == h.learning_rate


def test_grouped_steps_compute_less_and_are_the_same_after_a_resume(tiny_model, tmp_path, monkeypatch):
    rows = [row for pair in zip(chats("Long. " * 40), chats("Other words. " * 40), strict=True) for row in pair]
    runs = {}
    for name, grouping in (("free", "step"), ("whole", "epoch"), ("cut", "epoch")):
        runs[name] = make_run(tmp_path / name, tiny_model, hyperparameters=SHORT, grouping=grouping)
        write_chats(runs[name][0] / "train.jsonl", rows)
    train(*runs["free"])
    train(*runs["whole"])

    def die(self, step, total, save=_Run._save_if_due):
        save(self, step, total)
        if step == 4:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(_Run, "_save_if_due", die)
        with pytest.raises(Killed):
            train(*runs["cut"])
    train(*runs["cut"])
    whole, free = (steps(runs[name][0]) for name in ("whole", "free"))
    assert sum(s.logical_tokens for s in whole) == sum(s.logical_tokens for s in free)
    assert sum(s.computed_tokens for s in whole) < 0.9 * sum(s.computed_tokens for s in free)
    assert result(runs["cut"][0]) == result(runs["whole"][0])

"""The cost of a micro-batch: measured small, right when large; and what follows from it."""
import pytest
import torch
from runs import make_run

from feinschliff.core.chat import Rendered
from feinschliff.core.errors import TrainingFailed
from feinschliff.core.jobs import Full, Lora, Started
from feinschliff.nn.recompute import layers, recompute
from feinschliff.nn.tree import pack
from feinschliff.train import device, memory
from feinschliff.train.live_bytes import phases
from feinschliff.train.memory import Asked, Footprint, Phase, as_before, choose, cut_for, footprint
from feinschliff.train.model import Trainable
from feinschliff.train.state import Cut
from tiny import make_tiny_model

MB = 1_000_000


def make(folder, model, dtype=torch.float32, **changes):
    _, spec = make_run(folder, model, **changes)
    return Trainable.make(spec, model, dtype)


def peak(model, examples) -> int:
    for p in model.parameters().values():
        p.grad = torch.zeros_like(p)
    return max(phases(layers(model.decoder.body), lambda: model.loss(pack(examples))[0]))


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("method", [Lora(rank=4), Lora(rank=4, dora=True), Lora(rank=4, kind="qlora"), Full()], ids=["lora", "dora", "qlora", "full"])
@pytest.mark.parametrize("recomputed", [False, True], ids=["kept", "recomputed"])
def test_the_peak_of_large_batches_is_foretold_from_small_ones(family, method, recomputed, tmp_path):
    folder = make_tiny_model(tmp_path / family, family, layers=4, context=2048, window=64)
    model = make(tmp_path / "run", folder, method=method)
    cost = footprint(model, recomputed=recomputed)
    assert all(p.grad is None for p in model.parameters().values())
    stem = list(range(5, 205))
    examples = [Rendered([*stem, *((i * 31 + t) % 300 for t in range(190))], [0.0] * 300 + [1.0] * 90) for i in range(6)]
    tree = pack(examples)
    assert len(tree) > 1200
    recompute(model.decoder.body, on=recomputed)
    measured = peak(model, examples)
    foretold = cost.live(len(tree), len(tree.rows_R), tree.longest_path)
    assert foretold == pytest.approx(measured, rel=0.15)


def test_recomputing_is_foretold_to_be_lighter(tmp_path):
    folder = make_tiny_model(tmp_path / "qwen3", "qwen3", layers=6)  # fused layers keep less to begin with
    model = make(tmp_path / "run", folder)
    kept, recomputed = footprint(model, recomputed=False), footprint(model, recomputed=True)
    assert recomputed.live(2000, 0, 500) < 0.5 * kept.live(2000, 0, 500)
    assert kept.held_bytes == recomputed.held_bytes == 3 * 4 * sum(p.numel() for p in model.parameters().values())


# Bytes per token: kept, recomputed.
COSTS = {recomputed: Footprint(20 * MB, (Phase(MB, slope),), 0) for recomputed, slope in ((False, 100_000), (True, 20_000))}


def asked(budget="auto", recompute="auto", longest=500, step=4000):
    return Asked(budget, recompute, longest, step)


@pytest.mark.parametrize(
    ("question", "free_mb", "wanted"),
    [
        (asked(), 2000, Cut(8192, False)),  # more than the most that pays
        (asked(), 200, Cut(1390, False)),  # (0.8 · 200 - 21) / 0.1
        (asked(), 50, Cut(950, True)),  # 500 tokens, kept, would take 71 MB
        (asked(recompute=True), 200, Cut(6950, True)),
        (asked(budget=1000), 200, Cut(1000, False)),
        (asked(budget=4000), 200, Cut(4000, True)),
        (asked(budget=8192, step=600), 200, Cut(8192, False)),  # no step is so large
    ],
)
def test_choice(question, free_mb, wanted):
    assert choose(question, COSTS.__getitem__, free_mb * MB) == wanted


def test_the_largest_phase_counts():
    cost = Footprint(20 * MB, (Phase(50 * MB, 0), Phase(MB, 100_000)), 10)
    heavier = Footprint(20 * MB, cost.phases, 10, workspace=7 * MB, slack=1.5)
    assert cost.needs(1, 0, 1) == 70 * MB
    assert cost.needs(1000, 128, 200) == 121 * MB
    assert cost.needs(1000, 138, 200) == 121 * MB + 100
    assert heavier.needs(1000, 128, 200) == 20 * MB + 7 * MB + 151.5 * MB


@pytest.mark.parametrize(
    ("question", "hint"),
    [
        (asked(longest=5000), "max_tokens 450"),
        (asked(recompute=False), "gradient_checkpointing"),
        (asked(budget=4000, longest=100), "budget_tokens 450"),
    ],
)
def test_what_cannot_fit_is_refused_with_the_numbers(question, hint):
    with pytest.raises(TrainingFailed, match=r"0\.1 GB besides the model.* 0\.0 GB are free") as told:
        choose(question, COSTS.__getitem__, 37_500_000)
    assert hint in told.value.hint


def test_a_model_whose_optimizer_cannot_fit_is_refused_before_anything_is_measured(tiny_model, tmp_path, monkeypatch):
    model = make(tmp_path / "run", tiny_model, method=Full(), budget_tokens="auto")
    monkeypatch.setattr(device, "available_bytes", lambda: 100_000)
    monkeypatch.setattr(memory, "footprint", None)
    with pytest.raises(TrainingFailed, match="does not fit"):
        cut_for(model, [[Rendered([1, 2, 3], [0, 1, 1])]], 4)


def test_nothing_is_measured_where_the_spec_leaves_no_choice(tiny_model, tmp_path, monkeypatch):
    model = make(tmp_path / "run", tiny_model, budget_tokens=64, gradient_checkpointing=True)
    monkeypatch.setattr(device, "available_bytes", None)
    assert cut_for(model, [[Rendered([1, 2, 3], [0, 1, 1])]], 4) == Cut(64, True)


def began(budget_tokens, recompute=False):
    return Started(
        total_steps=1, first_step=0, n_examples=1, n_too_long=0, precision="fp32", trainable_parameters=1, budget_tokens=budget_tokens,
        gradient_checkpointing=recompute,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("now", "earlier", "cut"),
    [
        (Cut(900, False), [], Cut(900, False)),
        (Cut(900, False), [began(400), began(900)], Cut(400, False)),  # as its first start
        (Cut(300, False), [began(400)], Cut(300, False)),  # does not fit any more
        (Cut(900, False), [began(700, True)], Cut(700, True)),
        (Cut(900, True), [began(400)], Cut(900, True)),
        (Cut(900, False), [began(None)], Cut(900, False)),  # the log of an earlier version
    ],
)
def test_a_run_begun_before_is_cut_as_it_was_where_that_still_fits(now, earlier, cut):
    assert as_before(now, earlier) == cut

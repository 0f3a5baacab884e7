"""The memory forecast: parts by hand, tensors that really lived, and the benchmark's measured peaks."""
import json
from pathlib import Path

import pytest
import torch

from feinschliff.catalog import fit
from feinschliff.catalog.facts import Architecture
from feinschliff.catalog.fit import breakdown
from feinschliff.catalog.footprint import (
    CHUNK,
    ROWS,
    SLACK,
    TILE,
    WORKSPACE,
    Passes,
    load_peak,
    needs,
    trained_parameters,
)
from feinschliff.catalog.models import load_catalog
from feinschliff.core.chat import Rendered
from feinschliff.core.jobs import Full, Lora, TrainSpec
from feinschliff.nn import blocks, loss
from feinschliff.nn.recompute import layers, recompute
from feinschliff.nn.tree import pack
from feinschliff.train import memory
from feinschliff.train.live_bytes import phases
from feinschliff.train.model import Trainable
from tiny import make_tiny_model

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results" / "fit.json"
TINY = {"hidden": 32, "layers": 4, "intermediate": 64, "heads": 4, "kv_heads": 2, "head_dim": 8, "vocabulary": 384, "source": "tiny.py"}


def tiny(family):
    return Architecture.model_validate(TINY | {"tied": False, "fused": family != "qwen3"})


@pytest.mark.parametrize("model", [m for m in load_catalog().models if m.architecture], ids=lambda m: m.id)
def test_lora_and_full_parameters_by_hand(model):
    a = model.architecture
    assert trained_parameters(a, Full()) == a.linear_parameters + a.embedding_parameters
    q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
    by_hand = a.layers * ((a.hidden + q) + 2 * (a.hidden + kv) + (q + a.hidden) + 3 * (a.hidden + a.intermediate))
    assert trained_parameters(a, Lora(rank=3)) == 3 * by_hand
    assert trained_parameters(a, Lora(rank=3, targets=("q_proj", "v_proj"))) == 3 * a.layers * (2 * a.hidden + q + kv)
    lengths = trained_parameters(a, Lora(rank=3, dora=True)) - 3 * by_hand
    assert lengths == a.layers * (q + 2 * kv + 2 * a.hidden + 2 * a.intermediate)


def test_more_of_anything_needs_no_less():
    a = load_catalog().find("smollm2-135m-instruct").architecture
    base = needs(a, Lora(), Passes(512, 256)).total
    assert needs(a, Lora(), Passes(1024, 256)).total > base
    assert needs(a, Lora(), Passes(512, 512)).total > base
    assert needs(a, Lora(rank=64), Passes(512, 256)).total > base
    assert needs(a, Full(), Passes(512, 256)).total > base
    assert needs(a, Full(), Passes(512, 256, several=True)).total > needs(a, Full(), Passes(512, 256)).total
    assert needs(a, Lora(), Passes(512, 256, width=2)).total < base
    assert needs(a, Lora(), Passes(512, 256, recomputed=True)).total < base
    assert needs(a, Lora(kind="qlora"), Passes(512, 256, width=2)).total < needs(a, Lora(), Passes(512, 256, width=2)).total


def test_a_model_is_read_in_float32():
    llama = load_catalog().find("Meta-Llama-3.1-8b-Instruct")
    assert load_peak(llama.architecture) == pytest.approx(4 * llama.parameters, rel=0.02)


@pytest.mark.parametrize("recomputed", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("method", [Lora(rank=4), Full()], ids=["lora", "full"])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_activations_are_the_tensors_that_live(family, method, recomputed, tmp_path):
    folder = make_tiny_model(tmp_path / family, family, layers=4, context=2048)
    model = Trainable.make(TrainSpec(model=str(folder), train_files=("-",), method=method), folder, torch.float32)
    for p in model.parameters().values():
        p.grad = torch.zeros_like(p)  # as from a step's second pass on
    recompute(model.decoder.body, on=recomputed)
    stem = list(range(5, 205))
    examples = [Rendered([*stem, *((i * 31 + t) % 300 for t in range(190))], [0.0] * 300 + [1.0] * 90) for i in range(6)]
    tree = pack(examples)
    lived = max(phases(layers(model.decoder.body), lambda: model.loss(tree)[0]))
    passes = Passes(len(tree), len(tree.rows_R), recomputed=recomputed, longest=tree.longest_path, several=True)
    forecast = needs(tiny(family), method, passes).activations / SLACK[recomputed]
    assert forecast == pytest.approx(lived, rel=0.15)


def test_the_forecast_uses_the_programs_own_constants():
    assert (SLACK, WORKSPACE, fit.SHARE, fit.MOST_TOKENS) == (memory.SLACK, memory.WORKSPACE, memory.SHARE, memory.MOST_TOKENS)
    assert (ROWS, TILE) == (blocks.ROWS, blocks.TILE)
    assert CHUNK == loss.CHUNK


def test_measured_peaks_are_within_15_per_cent_of_todays_forecast():
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    assert len(rows) >= 12
    assert len({row["model"] for row in rows}) >= 4
    catalog = load_catalog()
    for row in rows:
        model = catalog.find(row["model"])
        passes = Passes(row["tokens"], row["trained"], 2 if row["precision"] == "bf16" else 4, row["recompute"], row["longest"])
        parts = breakdown(model, Lora() if row["method"] == "lora" else Full(), passes)
        peak = max(parts.total, load_peak(model.architecture))
        assert round(peak / 1e6) == pytest.approx(row["forecast"], abs=1), "the formula changed: python benchmarks/fit.py"
        assert peak / 1e6 == pytest.approx(row["measured"], rel=0.15), row

"""Memory that `catalog.fit` forecasts from a model's published sizes, against the measured peak of an optimizer step.

    python benchmarks/fit.py [--out benchmarks/results/fit.json] [--only gemma-3-270m-it]

SmolLM2-135M with its own weights; the others have their real shape and random weights in bfloat16, as hubs carry them (made on first
use under ~/.cache/feinschliff/benchmarks/fit). Each case in a process of its own, measured as in benchmarks/memory.py; the
forecasts are made anew every time.
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
from memory import MODEL, measure, show
from transformers import Gemma3TextConfig, LlamaConfig, PretrainedConfig, Qwen2Config, Qwen3Config
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from feinschliff.catalog.fit import breakdown
from feinschliff.catalog.footprint import Passes, load_peak
from feinschliff.catalog.models import CatalogModel, load_catalog
from feinschliff.compose import device, model_folder
from feinschliff.core.jobs import Full, Lora
from feinschliff.data.files import cache_folder

LONGEST = 512  # path of the measured trees: a stem and a branch of 256 tokens each
Row = dict[str, str | float | bool]

ROOT = Path(__file__).parents[1]
CASES = [
    *((MODEL, method, precision, recomputed, 1536) for method in ("lora", "full") for precision in ("bf16", "fp32") for recomputed in (False, True)),
    (MODEL, "lora", "fp32", False, 512),
    ("smollm2-360m-instruct", "lora", "fp32", False, 768),
    ("smollm2-360m-instruct", "lora", "bf16", True, 768),
    ("qwen2.5-0.5b-instruct", "lora", "fp32", False, 768),
    ("qwen3-0.6b", "lora", "fp32", False, 768),
    ("gemma-3-270m-it", "lora", "fp32", False, 768),
    ("gemma-3-270m-it", "full", "fp32", True, 768),
]
CONFIGS: dict[str, type[PretrainedConfig]] = {
    "SmolLM2": LlamaConfig, "Qwen 2.5": Qwen2Config, "Qwen 3": Qwen3Config, "Gemma 3": Gemma3TextConfig,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "fit.json")
    parser.add_argument("--only", help="one model")
    parser.add_argument("--case", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(case(*arguments.case)))
        return
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    known = json.loads(arguments.out.read_text(encoding="utf-8"))["rows"] if arguments.out.is_file() else []
    done = {(r["model"], r["method"], r["precision"], r["recompute"], r["tokens"]): r for r in known}
    for wanted in (c for c in CASES if c not in done and arguments.only in (None, c[0])):
        told = subprocess.run([sys.executable, __file__, "--case", *map(str, wanted)], capture_output=True, text=True, check=True)
        done[wanted] = json.loads(told.stdout.splitlines()[-1])
        print(told.stdout.splitlines()[-1], flush=True)
        write(arguments.out, commit, list(done.values()))
    show(write(arguments.out, commit, list(done.values())))


def write(out: Path, commit: str, measured: list[Row]) -> list[Row]:
    """The rows as written, each with today's forecast."""
    rows = [with_forecast(row) for row in measured]
    result = {"commit": commit, "device": device(), "torch": torch.__version__, "unit": "MB", "rows": rows}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return rows


def case(name: str, method: str, precision: str, recomputed: str, tokens: str) -> Row:
    folder = model_folder(MODEL) if name == MODEL else random_weights(load_catalog().find(name))
    measured = measure(folder, method, precision, recomputed == "True", int(tokens))
    return {
        "model": name, "method": method, "precision": precision, "recompute": recomputed == "True", "tokens": measured["tokens"], "longest": LONGEST,
        "trained": measured["trained"], "measured": measured["measured"],
    }  # fmt: skip


def with_forecast(row: Row) -> Row:
    """The measured row with today's forecast of it."""
    model = load_catalog().find(str(row["model"]))
    passes = Passes(int(row["tokens"]), int(row["trained"]), 2 if row["precision"] == "bf16" else 4, bool(row["recompute"]), int(row["longest"]))
    parts = breakdown(model, Lora() if row["method"] == "lora" else Full(), passes)
    assert parts is not None
    assert model.architecture is not None
    peak = max(parts.total, load_peak(model.architecture)) / 1e6
    measured = row["measured"]
    return {
        **{k: row[k] for k in ("model", "method", "precision", "recompute", "tokens", "longest", "trained")},
        "weights": round(parts.weights / 1e6), "held": round(parts.held / 1e6), "activations": round(parts.activations / 1e6),
        "forecast": round(peak), "measured": measured, "error_percent": round(100 * (peak / float(measured) - 1), 1),
    }  # fmt: skip


def random_weights(model: CatalogModel) -> Path:
    """A model folder of that shape, in bfloat16."""
    folder = cache_folder() / "benchmarks" / "fit" / model.id
    if not (folder / "config.json").is_file():
        a = model.architecture
        assert a is not None
        config = CONFIGS[model.family](
            vocab_size=a.vocabulary, hidden_size=a.hidden, intermediate_size=a.intermediate, num_hidden_layers=a.layers,
            num_attention_heads=a.heads, num_key_value_heads=a.kv_heads, head_dim=a.head_dim, tie_word_embeddings=a.tied,
            pad_token_id=None,  # a row of zeros, which norm after norm would blow up
        )  # fmt: skip
        torch.manual_seed(0)
        MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config).to(torch.bfloat16).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()

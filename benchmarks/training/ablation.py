"""What each idea of the engine brings: seconds per optimizer step with all of them, with each one taken away, and with none.

    python benchmarks/training/ablation.py [--data S,D] [--rounds 5] [--out benchmarks/results/ablation.json]

All variants live in one process and take turns step by step, so that what else the machine does hits all of them alike.
"""
import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from unittest import mock

import torch
from prepared import prepare
from results import ROOT, machine
from rich.console import Console
from rich.table import Table
from run import MODEL
from systems import CASES
from torch import Tensor

from feinschliff.compose import model_folder
from feinschliff.compute.process import MEMORY
from feinschliff.core.chat import Rendered
from feinschliff.core.jobs import TrainSpec
from feinschliff.data.files import write_text
from feinschliff.data.read import load as read_chats
from feinschliff.data.render import Renderer
from feinschliff.nn import attention, blocks, tree
from feinschliff.nn import model as nn_model
from feinschliff.nn.native import kernels as native
from feinschliff.train import batches
from feinschliff.train import model as train_model
from feinschliff.train.model import Trainable
from feinschliff.train.step import optimizer_step


@dataclass(frozen=True, slots=True)
class Variant:
    """The engine without some of its ideas."""

    name: str
    shares: bool = True  # prefix trees
    fused: bool = True  # the layers of nn.fused
    products: bool = True  # attention over blocks (by kernels or products) instead of torch's kernel under a mask
    kernels: bool = True  # in C, for attention and for rows between products
    sparse_head: bool = True  # logits and loss on trained positions only
    bf16: bool = True


VARIANTS = (
    Variant("all ideas"),
    Variant("no kernels in C", kernels=False),
    Variant("nothing shared", shares=False),
    Variant("plain layers", fused=False),
    Variant("torch's attention, masked", products=False),
    Variant("head on every position", sparse_head=False),
    Variant("fp32", bf16=False),
    Variant("none of them", shares=False, fused=False, products=False, kernels=False, sparse_head=False, bf16=False),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="S,D")
    parser.add_argument("--variants", help="some of them, by name, with commas between; all if not given")
    parser.add_argument("--rounds", type=int, default=5, help="measured steps of every variant, after one that warms up")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "ablation.json")
    a = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in MEMORY.items()):  # read by the C library at its start
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | MEMORY)
    folder = model_folder(MODEL)
    named = VARIANTS if a.variants is None else [v for v in VARIANTS if v.name in a.variants.split(",")]
    runners = [Runner(v, folder) for v in named]
    rows = [row for name in a.data.split(",") for row in measure(runners, name, folder, a.rounds)]
    units = {"s_per_step": "seconds, median", "s_min": "seconds", "times": "s_per_step over that of all ideas"}
    write_text(a.out, json.dumps(machine() | {"units": units, "memory": MEMORY, "rows": rows}, indent=1) + "\n")
    show(rows)


class Runner:
    """A model and its optimizer under one variant."""

    def __init__(self, variant: Variant, folder: Path) -> None:
        self.variant = variant
        spec = TrainSpec(model=str(folder), train_files=("-",))
        with mock.patch.object(train_model, "load", partial(nn_model.load, fast=variant.fused)):
            self.model = Trainable.make(spec, folder, torch.bfloat16 if variant.bf16 else torch.float32)
        self.optimizer = torch.optim.AdamW(list(self.model.parameters().values()), lr=0.0, fused=True)

    def step(self, examples: list[Rendered]) -> tuple[float, float, int]:
        """Seconds, loss, computed tokens."""
        v = self.variant
        if not v.sparse_head:  # as many logits as there are tokens; the loss then is another one
            examples = [Rendered(e.tokens, [1.0] * len(e.tokens)) for e in examples]
        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(batches, "pack", partial(tree.pack, share=v.shares)))
            if not (v.kernels and v.products):
                stack.enter_context(mock.patch.object(attention, "attention_kernels", return_value=None))
            if not v.kernels:
                stack.enter_context(mock.patch.object(native, "loaded", return_value=None))
            if not v.products:
                stack.enter_context(mock.patch.object(attention, "attention", masked))
            t0 = time.perf_counter()
            result = optimizer_step(self.model, self.optimizer, examples, rate=1e-4, max_grad_norm=1.0, budget_tokens=8192)
            return time.perf_counter() - t0, result.loss, result.computed_tokens


def measure(runners: Sequence[Runner], data: str, folder: Path, rounds: int) -> Iterator[dict[str, object]]:
    case = CASES[data]
    ready = prepare(case, folder, 1 + rounds, smoke=False)
    renderer = Renderer.of(folder)
    examples = [r for chat in read_chats(ready.folder / "train.jsonl", "chat") for r in renderer.render(chat)]
    took: list[list[tuple[float, float, int]]] = [[] for _ in runners]
    for i in range(1 + rounds):
        batch = [examples[(i * case.batch + j) % len(examples)] for j in range(case.batch)]
        for runner, own in zip(runners, took, strict=True):
            own.append(runner.step(batch))
            print(f"benchmark: {data}, {runner.variant.name}: {own[-1][0]:.2f} s", flush=True)
    all_ideas = statistics.median(s for s, _, _ in took[0][1:])
    for runner, own in zip(runners, took, strict=True):
        seconds = [s for s, _, _ in own[1:]]
        median = statistics.median(seconds)
        yield {
            "data": data, "variant": runner.variant.name, "s_per_step": round(median, 3), "s_min": round(min(seconds), 3),
            "s_max": round(max(seconds), 3), "times": round(median / all_ideas, 2), "computed_tokens": own[-1][2],
            "last_loss": round(own[-1][1], 4),
        }  # fmt: skip


@cache
def _mask(plan: blocks.Plan) -> Tensor:
    """(T, T) of 0 and minus infinity."""
    T = plan.blocks[-1].end
    mask = torch.full((T, T), float("-inf"), dtype=plan.dtype)
    for b in plan.blocks:
        keys = blocks.rows(torch.arange(T), b.keys)
        mask[b.start : b.end, keys] = torch.zeros((), dtype=plan.dtype).where(~plan.hidden(b), float("-inf"))
    return mask


def masked(q: Tensor, k: Tensor, v: Tensor, plan: blocks.Plan, *, scale: float, softcap: float | None) -> Tensor:
    """torch's own attention kernel, with a mask over all pairs. q (T, H, d); k, v (T, Hk, d)."""
    heads = [x.transpose(0, 1)[None] for x in (q, k, v)]
    out = torch.nn.functional.scaled_dot_product_attention(*heads, attn_mask=_mask(plan), scale=scale, enable_gqa=True)
    return out[0].transpose(0, 1)


def show(rows: Sequence[dict[str, object]]) -> None:
    table = Table(title="one optimizer step")
    for key in rows[0]:
        table.add_column(key.replace("_", " "))
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

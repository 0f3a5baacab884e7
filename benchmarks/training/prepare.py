"""A program: from a chat file to what every system gets, the same tokens in the same order and the same first adapter.

    python prepare.py CHATS MODEL_FOLDER OUT --batch 8 --steps 11 --max-tokens 1024

Writes OUT/train.jsonl (the rows that feinschliff trains on), OUT/tokens.jsonl (the same rendered, in the order of its steps),
OUT/steps.json (the work in each step) and OUT/adapter (PEFT). Loads torch, so it runs in a process of its own.
"""
import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from work import StepWork

from feinschliff.core.chat import Rendered
from feinschliff.core.jobs import TrainSpec
from feinschliff.data.read import load
from feinschliff.data.render import Renderer
from feinschliff.nn.tree import pack
from feinschliff.train.batches import Batches
from feinschliff.train.model import Trainable

SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chats", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--batch", type=int, required=True, help="examples per optimizer step")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--max-tokens", type=int, required=True, help="longer rows are left out")
    arguments = parser.parse_args()
    rendered, lines = _usable(arguments.chats, Renderer.of(arguments.model), arguments.max_tokens)
    n = arguments.steps * arguments.batch
    if len(rendered) < n:
        raise SystemExit(f"{arguments.chats} has {len(rendered)} usable rows; {arguments.steps} steps need {n}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "train.jsonl").write_text("".join(lines[:n]), encoding="utf-8")
    order = Batches((rendered[:n],), arguments.batch, SEED)
    steps = [order.at(step) for step in range(arguments.steps)]
    tokens = [{"tokens": list(r.tokens), "trained": [int(w > 0) for w in r.weights]} for step in steps for r in step]
    (arguments.out / "tokens.jsonl").write_text("".join(json.dumps(t) + "\n" for t in tokens), encoding="utf-8")
    spec = TrainSpec(model=str(arguments.model), train_files=("train.jsonl",), seed=SEED)
    torch.manual_seed(SEED)
    Trainable.make(spec, arguments.model, torch.float32).save(arguments.out / "adapter")
    work = json.dumps([asdict(_work(step)) for step in steps], indent=1)
    (arguments.out / "steps.json").write_text(work, encoding="utf-8")  # last: it says that all is there


def _usable(chats: Path, renderer: Renderer, max_tokens: int) -> tuple[list[Rendered], list[str]]:
    """The rows that give exactly one example of at most `max_tokens`, rendered and as lines of text."""
    limit = min(max_tokens, renderer.max_tokens or max_tokens)
    rendered, lines = [], []
    texts = chats.read_text(encoding="utf-8").splitlines(keepends=True)
    for example, line in zip(load(chats, "chat"), texts, strict=True):
        made = renderer.render(example)
        if len(made) == 1 and len(made[0].tokens) <= limit:
            rendered.append(made[0])
            lines.append(line)
    return rendered, lines


def _work(step: Sequence[Rendered]) -> StepWork:
    alone, shared = pack(step, share=False), pack(step)
    return StepWork(
        examples=len(step), trained_tokens=len(shared.rows_R), longest=max(len(r.tokens) for r in step),
        logical_tokens=len(alone), logical_pairs=int((alone.positions_T + 1).sum()),
        shared_tokens=len(shared), shared_pairs=int((shared.positions_T + 1).sum()),
    )  # fmt: skip


if __name__ == "__main__":
    main()

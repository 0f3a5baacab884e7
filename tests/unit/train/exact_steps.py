"""Three optimizer steps in float64, alone or as a rank: `exact_steps.py OUT_DIR MODEL_DIR TIED_MODEL_DIR`."""
import sys
from pathlib import Path

import torch
from runs import make_run
from torch.distributed.tensor import DTensor

from feinschliff.core.chat import Rendered
from feinschliff.core.jobs import Full, Lora, TrainSpec
from feinschliff.train.model import Trainable
from feinschliff.train.parallel import Ranks, Sharded, Together, joined
from feinschliff.train.sharding import whole_parameters
from feinschliff.train.state import Saved, StateFolder
from feinschliff.train.step import optimizer_step
from feinschliff.train.validation import validate

STEPS = [  # examples with one beginning; examples with none; a single one, so that a rank has nothing
    [Rendered([*range(5, 60), 70 + i, *range(100, 110 + i)], [0.0] * 50 + [1.0] * (16 + i)) for i in range(6)],
    [Rendered([*range(9 * i, 40 + 20 * i)], [0.0] * 30 + [0.5 + i] * (10 + 11 * i)) for i in range(5)],
    [Rendered([*range(80)], [0.0] * 70 + [1.0] * 10)],
]


CASES = {"lora": (0, Lora(rank=4, alpha=8)), "full": (0, Full()), "tied": (1, Full())}  # which model, and how it is trained


def take(case: str, models: list[Path], out: Path, ranks: Ranks) -> dict[str, object]:
    """What the steps tell, and the weights after them. A sharded run is saved and made anew before the last step."""
    which, method = CASES[case]
    _, spec = make_run(out / "spec", models[which], method=method)
    model, optimizer = _made(spec, models[which], ranks)
    told = [_step(model, optimizer, step, ranks) for step in STEPS[:2]]
    if isinstance(ranks, Sharded):
        StateFolder(out.parent / f"state-{case}", writes=ranks.first).save(Saved(2, "fp64", 0, 0.0), model.parameters(), optimizer)
        ranks.agreed("saved")
        model, optimizer = _made(spec, models[which], ranks)
        StateFolder(out.parent / f"state-{case}").restore(model.parameters(), optimizer)
    told.append(_step(model, optimizer, STEPS[2], ranks))
    valid = validate(model, tuple(STEPS[0]), 3, 100, ranks)
    valid_of = (valid.valid_loss, valid.valid_token_accuracy, valid.n_tokens)
    slices = sum(p.to_local().numel() if isinstance(p, DTensor) else p.numel() for p in model.parameters().values())
    return {"steps": told, "valid": valid_of, "weights": whole_parameters(model.parameters(), keep=True), "held": slices}


def _made(spec: TrainSpec, folder: Path, ranks: Ranks) -> tuple[Trainable, torch.optim.Optimizer]:
    model = Trainable.make(spec, folder, torch.float64)
    if isinstance(ranks, Sharded):
        model.shard()
    return model, torch.optim.AdamW(list(model.parameters().values()), lr=0.0, weight_decay=0.01, fused=True)


def _step(model: Trainable, optimizer: torch.optim.Optimizer, examples: list[Rendered], ranks: Ranks) -> tuple[float, ...]:
    told = optimizer_step(model, optimizer, examples, rate=0.02, max_grad_norm=0.5, budget_tokens=100, ranks=ranks)
    return told.loss, told.accuracy, told.grad_norm, told.trained_tokens, told.logical_tokens


if __name__ == "__main__":
    folder, *models = map(Path, sys.argv[1:])
    with joined(folder / "lock", "none") as ranks:
        assert isinstance(ranks, Together)
        name = f"rank-{ranks.rank}"
        sharded = Sharded(ranks.rank, ranks.size)
        told = {c: take(c, models, folder / name, ranks if c == "lora" else sharded) for c in CASES}
        torch.save(told, folder / f"{name}.pt")

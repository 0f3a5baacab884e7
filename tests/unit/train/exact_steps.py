"""Three optimizer steps in float64, alone or as a rank: `exact_steps.py MODEL_DIR OUT_DIR`."""
import sys
from pathlib import Path

import torch
from runs import make_run

from feinschliff.core.chat import Rendered
from feinschliff.train.model import Trainable
from feinschliff.train.parallel import Ranks, joined
from feinschliff.train.step import optimizer_step
from feinschliff.train.validation import validate

STEPS = [  # examples with one beginning; examples with none; a single one, so that a rank has nothing
    [Rendered([*range(5, 60), 70 + i, *range(100, 110 + i)], [0.0] * 50 + [1.0] * (16 + i)) for i in range(6)],
    [Rendered([*range(9 * i, 40 + 20 * i)], [0.0] * 30 + [0.5 + i] * (10 + 11 * i)) for i in range(5)],
    [Rendered([*range(80)], [0.0] * 70 + [1.0] * 10)],
]


def take(model_folder: Path, out: Path, ranks: Ranks) -> dict[str, object]:
    """What the steps tell, and the weights after them."""
    _, spec = make_run(out / "spec", model_folder)
    model = Trainable.make(spec, model_folder, torch.float64)
    optimizer = torch.optim.AdamW(list(model.parameters().values()), lr=0.0, weight_decay=0.01)
    told = [
        optimizer_step(model, optimizer, step, rate=0.02, max_grad_norm=0.5, budget_tokens=100, ranks=ranks) for step in STEPS
    ]
    told_of = [(t.loss, t.accuracy, t.grad_norm, t.trained_tokens, t.logical_tokens) for t in told]
    valid = validate(model, tuple(STEPS[0]), 3, 100, ranks)
    valid_of = (valid.valid_loss, valid.valid_token_accuracy, valid.n_tokens)
    return {"steps": told_of, "valid": valid_of, "weights": {n: p.detach() for n, p in model.parameters().items()}}


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    with joined(folder / "lock") as ranks:
        name = "rank-0" if ranks.first else "rank-1"
        torch.save(take(Path(sys.argv[1]), folder / name, ranks), folder / f"{name}.pt")

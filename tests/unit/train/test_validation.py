import torch
from runs import make_run, small_examples

from feinschliff.core.chat import Rendered
from feinschliff.train.model import Trainable
from feinschliff.train.validation import validate


def test_validation_tolerates_examples_without_trained_tokens(tiny_model, tmp_path):
    _, spec = make_run(tmp_path, tiny_model)
    model = Trainable.make(spec, tiny_model, torch.float32)
    idle = Rendered([5, 6, 7], [0.0] * 3)
    alone = validate(model, (small_examples()[0],), 1, 64)
    assert validate(model, (idle, small_examples()[0]), 1, 64) == alone
    assert validate(model, (idle,), 1, 64).n_tokens == 0

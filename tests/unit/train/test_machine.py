import pytest
import torch

from feinschliff.core.jobs import MatrixSpeed, TrainSpec
from feinschliff.train.machine import SMALL, choose, measure
from feinschliff.train.shape import Linear, ModelShape

SHAPE = ModelShape((Linear("up_proj", 96, 64), Linear("down_proj", 64, 96)) * 3, 64, 1000, SMALL, "llama")
AUTO = TrainSpec(model="m", train_files=("f",))


def test_both_precisions_are_measured_and_the_random_state_is_untouched():
    before = torch.get_rng_state()
    speed = measure(SHAPE)
    assert speed.of("bf16") == speed.bf16 > 1e6
    assert speed.of("fp32") == speed.fp32 > 1e6
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("bf16", "chosen"), [(2e9, "bf16"), (1.2e9, "fp32"), (0.5e9, "fp32")])
def test_bf16_only_where_it_is_clearly_faster(bf16, chosen):
    precision, reason = choose(AUTO, SHAPE, MatrixSpeed(bf16=bf16, fp32=1e9))
    assert precision == chosen
    assert f"{bf16 / 1e9:.2f} times" in reason


def test_a_small_model_stays_exact():
    small = ModelShape(SHAPE.linears, 64, 1000, SMALL - 1, "llama")
    assert choose(AUTO, small, MatrixSpeed(bf16=9e9, fp32=1e9))[0] == "fp32"


def test_what_is_asked_for_is_taken():
    spec = AUTO.model_copy(update={"precision": "bf16"})
    assert choose(spec, SHAPE, MatrixSpeed(bf16=1e9, fp32=9e9)) == ("bf16", "as asked for")

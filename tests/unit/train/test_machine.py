import pytest
import torch

from feinschliff.core.jobs import Full, MatrixSpeed, TrainSpec
from feinschliff.nn.multiply import has_onednn
from feinschliff.train.machine import SMALL, choose, library, measure
from feinschliff.train.shape import Linear, ModelShape

SHAPE = ModelShape((Linear("up_proj", 96, 64), Linear("down_proj", 64, 96)) * 3, 64, 1000, SMALL, "llama")
AUTO = TrainSpec(model="m", train_files=("f",))


def test_both_precisions_and_libraries_are_measured_and_the_random_state_is_untouched():
    before = torch.get_rng_state()
    speed = measure(SHAPE)
    assert speed.of("bf16") == speed.bf16 > 1e6
    assert speed.of("fp32") == speed.fp32 > 1e6
    assert (speed.of("fp32", "onednn") > 1e6) == has_onednn()
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


@pytest.mark.parametrize(("onednn", "chosen"), [(0.0, "blas"), (1.3e9, "blas"), (1.5e9, "onednn")])
def test_onednn_only_where_it_is_clearly_faster(onednn, chosen):
    assert library(AUTO, SHAPE, MatrixSpeed(bf16=1e9, fp32=1e9, fp32_onednn=onednn)) == chosen


def test_only_products_with_frozen_weights_of_some_size_have_a_choice():
    speed = MatrixSpeed(bf16=1e9, fp32=1e9, fp32_onednn=9e9)
    assert library(AUTO.model_copy(update={"method": Full()}), SHAPE, speed) == "blas"
    assert library(AUTO, ModelShape(SHAPE.linears, 64, 1000, SMALL - 1, "llama"), speed) == "blas"


def test_bf16_is_compared_with_the_faster_library():
    precision, reason = choose(AUTO, SHAPE, MatrixSpeed(bf16=2e9, fp32=1e9, fp32_onednn=1.9e9))
    assert precision == "fp32"
    assert "1.05 times" in reason

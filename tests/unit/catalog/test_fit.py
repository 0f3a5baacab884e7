"""Whether a job fits, and the nearest thing that does."""
import pytest

from feinschliff.catalog.fit import MOST_TOKENS, Hardware, Work, fit, least_bytes
from feinschliff.catalog.models import load_catalog
from feinschliff.core.jobs import Full, Lora

CATALOG = load_catalog()
SMOL = CATALOG.find("smollm2-135m-instruct")
LLAMA = CATALOG.find("Meta-Llama-3.1-8b-Instruct")


def machine(gb, **more):
    return Hardware(name="here", memory_bytes=int(gb * 1e9), **more)


def test_three_verdicts_as_memory_shrinks():
    work = Work(longest=1024, step=16_384)
    found = [fit(SMOL, Lora(), "fp32", work, machine(gb)) for gb in (64, 8, 1)]
    assert [f.verdict for f in found] == ["fits", "fits_recomputed", "too_large"]
    assert found[0].needs_bytes <= found[0].usable_bytes == int(0.8 * 64e9)
    assert found[1].least_bytes <= found[1].usable_bytes < found[1].needs_bytes
    assert found[2].least_bytes > found[2].usable_bytes
    assert found[0].nearest == found[1].nearest == ()


def test_what_fits_instead_is_named_and_does_fit():
    here, work = machine(8), Work(longest=4096, step=65_536)
    found = fit(LLAMA, Full(), "fp32", work, here, CATALOG)
    assert found.verdict == "too_large"
    (nearest,) = found.nearest  # neither shorter examples nor LoRA are enough for 8 billion weights in 8 GB
    other = CATALOG.find(nearest.removeprefix("the model "))
    assert fit(other, Full(), "fp32", work, here).verdict == "fits_recomputed"
    assert other.parameters < LLAMA.parameters


def test_shorter_examples_and_lora_are_proposed():
    found = fit(SMOL, Full(), "fp32", Work(longest=8192, step=8192), machine(4.75), CATALOG)
    assert found.verdict == "too_large"
    ways = " or ".join(found.nearest)
    assert "LoRA instead of full fine-tuning" in ways
    n = int(ways.split("up to ")[1].split(" tokens")[0].replace(",", ""))
    assert fit(SMOL, Full(), "fp32", Work(longest=n, step=8192), machine(4.75)).verdict == "fits_recomputed"
    assert n == 4096 or fit(SMOL, Full(), "fp32", Work(longest=2 * n, step=8192), machine(4.75)).verdict == "too_large"


def test_the_forward_pass_is_no_longer_than_a_step_or_the_most_tokens():
    small, large, larger = (fit(SMOL, Lora(), "fp32", Work(longest=64, step=s), machine(64)).needs_bytes for s in (512, 2 * MOST_TOKENS, 10**6))
    assert small < large == larger


def test_bf16_where_it_is_asked_for_or_fast():
    def asked(precision, **more):
        return fit(SMOL, Lora(), precision, Work(), machine(64, **more)).needs_bytes

    assert asked("bf16") < asked("fp32") == asked("auto")
    assert asked("auto", bf16=True) == asked("bf16")


def test_time_grows_with_work_and_needs_a_rate():
    work = Work(per_epoch=100_000, trained=20_000)
    assert fit(SMOL, Lora(), "fp32", work, machine(64)).seconds is None
    once, thrice = (
        fit(SMOL, Lora(), "fp32", work.model_copy(update={"epochs": e}), machine(64, flops_per_s=1e11)).seconds for e in (1, 3)
    )
    assert thrice == pytest.approx(3 * once)
    # by hand: 4 products of 106 million weights a token and 28 million of the head a trained one, adapters a few per cent more
    assert once == pytest.approx((4 * 106.2e6 * 1e5 + 4 * 28.3e6 * 2e4) / (0.45 * 1e11), rel=0.1)
    assert fit(SMOL, Full(), "fp32", work, machine(64, flops_per_s=1e11)).seconds == pytest.approx(1.45 * once, rel=0.1)


def test_of_unknown_layers_only_the_weights_are_judged():
    gpt_oss = CATALOG.find("gpt-oss-20b")
    assert fit(gpt_oss, Lora(), "bf16", Work(), machine(24)).verdict == "too_large"
    assert fit(gpt_oss, Lora(), "bf16", Work(), machine(640)).verdict == "unknown"
    assert fit(CATALOG.find("Ministral-3B"), Lora(), "bf16", Work(), machine(1)).verdict == "unknown"
    assert least_bytes(gpt_oss, Lora(), 1024) is None

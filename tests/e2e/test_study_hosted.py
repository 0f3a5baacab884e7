"""Local arms and an Azure resource's in one study; either side killed, nothing is lost and nothing is trained twice."""
import random

import pytest
from hosted_study import Pair, disturb, measured

pytestmark = pytest.mark.timeout(1200)  # four processes that load torch, one after the other


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_model, tiny_encoder):
    pair = Pair(tmp_path_factory.mktemp("undisturbed"), tiny_model, tiny_encoder)
    try:
        yield pair, pair.finish()
    finally:
        pair.server.stop()


@pytest.fixture
def pair(tmp_path, tiny_model, tiny_encoder):
    pair = Pair(tmp_path, tiny_model, tiny_encoder)
    yield pair
    pair.server.stop()


def test_one_file_measures_arms_of_both_sides(undisturbed):
    pair, report = undisturbed
    assert [arm["name"] for arm in report["arms"]] == ["base", "tuned", "azure", "azure+prompt", "azure+tuned"]
    (job,) = pair.jobs()
    assert job["status"] == "succeeded"
    (hosted,) = report["hosted"]
    assert (hosted["tuned_model"], hosted["trained_tokens"]) == (job["fine_tuned_model"], job["trained_tokens"])
    assert pair.deployments() == []  # the tuned model was deployed for as long as it was asked
    answers = [line for line in pair.ledger() if line["kind"] == "answer"]
    # 30 held-out questions and 2 timed ones for each of three arms; the validation part if an arm of Azure's was the best untuned one
    assert hosted["requests"] == len(answers) >= 96
    assert hosted["answers_money"] == pytest.approx(sum(line["money"] for line in answers))
    assert hosted["training_money"] == pytest.approx(job["trained_tokens"] * 20 / 1e6)
    arms = {arm["name"]: arm for arm in report["arms"]}
    asked = arms["azure+tuned"]
    assert asked["cost"]["per_request"] == pytest.approx((asked["input_tokens"] * 2 + asked["output_tokens"] * 8) / 1e6)
    assert (asked["cost"]["hosting_month"], arms["azure"]["cost"]["hosting_month"]) == (1.5 * 730, 0)
    assert asked["latency_ms"]["n"] == 2
    # The same weights stand on both sides. Two engines round differently, so a random model's greedy answers may part at a near tie.
    for metric, asked in arms["azure"]["metrics"].items():
        assert asked["value"] == pytest.approx(arms["base"]["metrics"][metric]["value"], rel=0.05)


def test_its_cost_has_both_sides(undisturbed):
    pair, report = undisturbed
    sheet = pair.printed("cost", str(pair.file), "--out", str(pair.out))
    (hosted,) = report["hosted"]
    (there,) = [t for t in sheet["trainings"] if t["place"] == "azure"]
    assert (sheet["basis"], there["tokens"], there["training"]) == ("measured", hosted["trained_tokens"], pytest.approx(hosted["training_money"]))
    told = {arm["name"]: arm["cost"] for arm in report["arms"]}
    assert [arm["name"] for arm in sheet["arms"]] == list(told)
    for arm in sheet["arms"]:
        assert arm["per_request"] == pytest.approx(told[arm["name"]]["per_request"])
        if "tuned" in arm["name"]:
            assert arm["break_even_requests"] == told[arm["name"]]["break_even_requests"]


def test_a_hosted_model_that_is_to_go_is_told_with_the_study_to_run_again(undisturbed):
    pair, report = undisturbed
    models = pair.settings / "models.toml"
    kept = models.read_text(encoding="utf-8")
    models.write_text(kept + 'lifecycle = { inference_until = 2099-01-01 }\n', encoding="utf-8")
    try:
        (found,) = pair.printed("catalog", "retirements", str(pair.folder))
    finally:
        models.write_text(kept, encoding="utf-8")
    assert (found["model"], found["base"], found["study"], found["answers_until"]) == (
        report["hosted"][0]["tuned_model"], "far", report["study"], "2099-01-01",
    )  # fmt: skip


def test_a_finished_study_asks_nobody(undisturbed):
    pair, report = undisturbed
    n = len(pair.ledger())
    assert measured(pair.finish()) == measured(report)
    assert len(pair.ledger()) == n


def killed_at_random(pair, undisturbed, seed, n):
    chance = random.Random(seed)
    moments = sorted(chance.sample(range(undisturbed[0].progress()), n))
    killed = [disturb(pair, chance, at) for at in moments]
    print(killed)
    report = pair.finish()
    assert measured(report) == measured(undisturbed[1]), killed
    assert [job["status"] for job in pair.jobs()] == ["succeeded"], killed
    assert pair.deployments() == []


def test_either_side_killed(pair, undisturbed):
    killed_at_random(pair, undisturbed, seed=1, n=2)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [2, 3])
def test_either_side_killed_at_twenty_random_moments(pair, undisturbed, seed):
    killed_at_random(pair, undisturbed, seed, n=20)

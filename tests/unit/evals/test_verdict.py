"""Each decision, from measurements laid out in a table."""
import pytest

from feinschliff.core.findings import CheckReport, Finding
from feinschliff.core.ports import Score
from feinschliff.core.report import (
    Answer,
    ArmReport,
    HeldOut,
    Latency,
    SeedReport,
    SeedRun,
    SplitReport,
    Spread,
)
from feinschliff.core.study import Data, Goal, GraderSpec, Prices, Prompt, Retrieval, Study, Traffic
from feinschliff.evals import verdict
from feinschliff.evals.compare import Scored, best_arm, compare_arms, metrics, metrics_by_part
from feinschliff.evals.cost import Usage, cost
from feinschliff.evals.facts import Facts

WHY = "The base model writes invalid GQL."
ALL = {"base": 5, "prompt": 30, "few_shot": 60, "retrieval": 40}


def facts(right, *, n=200, goal=0.8, part=None, parts=None, format_right=None, n_train=1000, prices=None, why=WHY, **more):
    """`right`: arm → how many of the first n examples it gets right; `format_right` the same for the not_worse grader."""
    study = Study(
        name="s", task="t", why=why, arms=tuple(right), data=Data(files=("a.jsonl",), labelled_by="two engineers", curated="read"),
        graders=(GraderSpec(name="execution", type="exact"), GraderSpec(name="syntax", type="exact")), prompt=Prompt(system="x"),
        retrieval=Retrieval(documents=("*.md",)), prices=prices or Prices(), traffic=Traffic(requests_per_month=100_000),
        goal=Goal(grader="execution", at_least=goal, part=part, not_worse=("syntax",) if format_right else ()),
    )  # fmt: skip
    labels = parts or [""] * n

    def score(k):
        return [Score(1.0)] * k + [Score(0.0)] * (n - k)

    scored = Scored({a: {"execution": score(k), "syntax": score((format_right or {}).get(a, n))} for a, k in right.items()}, labels)
    tokens = {a: 800.0 if "prompt" in a else 60.0 for a in right}
    best = {t: best_arm(scored, grader="execution", part=part, input_tokens=tokens, tuned=t) for t in (False, True)}
    found = compare_arms(scored, best[False])
    usage = {a: Usage(tokens[a], 40.0, 1200.0 if "tuned" in a else 0.0, "tuned" in a) for a in right}
    rival = cost(study.prices, study.traffic, usage[best[False]], None) if best[False] else None
    arms = tuple(
        ArmReport(
            name=a, metrics=metrics(scored, a), parts=metrics_by_part(scored, a), input_tokens=tokens[a], output_tokens=40.0,
            latency_ms=Latency(p50=1.0, p95=2.0, n=8), answering_seconds=1.0, wins=0, losses=0, worst=(),
            cost=cost(study.prices, study.traffic, usage[a], rival),
        )
        for a in right
    )  # fmt: skip
    split = SplitReport(
        n_read=1300, n_train=n_train, n_validation=50, n_test=n, n_duplicates_removed=3, leaks={"exact": 2, "shared_answer": 9},
        n_leaks_removed=2, n_train_used=n_train, n_too_long=0,
    )  # fmt: skip
    held = HeldOut(n=n, sha256="ab" * 32, parts={p: labels.count(p) for p in sorted(set(labels)) if p})
    return Facts(study, held, split, arms, found, best[False], best[True], **more)


CASES = [
    ("tuned wins and reaches the goal", facts(ALL | {"tuned": 170}), "fine_tune"),
    ("both reach it, tuned is much better", facts({"base": 5, "prompt": 165, "tuned": 195}), "fine_tune"),
    ("prompt reaches it, tuned no better", facts({"base": 5, "prompt": 165, "tuned": 166}), "stop"),
    ("base reaches it, nothing else ran", facts({"base": 165}), "stop"),
    ("nothing helps", facts(ALL | {"tuned": 60}), "stop"),
    ("tuning harms", facts(ALL | {"tuned": 20}), "stop"),
    ("only base and tuned", facts({"base": 5, "tuned": 170}), "improve_prompt"),
    ("only tuned", facts({"tuned": 170}), "improve_prompt"),
    ("prompt reaches the goal, no tuned arm", facts({"base": 5, "prompt": 165}), "improve_prompt"),
    ("retrieval untried, no tuned arm", facts({"base": 5, "prompt": 60}), "improve_prompt"),
    ("all tried in vain, no tuned arm", facts(ALL), "more_data"),
    ("tuned better but short of the goal", facts(ALL | {"tuned": 130}), "more_data"),
    ("better, but syntax regressed", facts(ALL | {"tuned": 170}, format_right={"tuned": 150}), "more_data"),
    ("gain within noise on few examples", facts({"base": 1, "prompt": 14, "tuned": 17}, n=20), "more_data"),
    ("no gain, tiny training set", facts(ALL | {"tuned": 60}, n_train=40), "more_data"),
    ("prompt at the goal, tuned gains and regresses", facts(
        {"base": 5, "prompt": 165, "tuned": 195}, format_right={"tuned": 150}), "improve_prompt"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "decision"), [pytest.param(f, d, id=name) for name, f, d in CASES])
def test_decision(case, decision):
    v = verdict.decide(case)
    assert v.decision == decision
    assert v.headline
    assert v.reasons
    assert len({e.question for e in v.record}) == len(v.record) == 17


def record(v):
    return {e.question: e for e in v.record}


def test_fine_tune_shows_its_numbers():
    v = verdict.decide(facts(ALL | {"tuned": 170}))
    text = " ".join(v.reasons)
    assert "`few_shot` with execution 0.300 (95 % interval 0.241–0.367, n = 200)" in text
    assert "`tuned` with execution 0.850" in text
    assert "+55.0 points" in text
    assert "110 wins, 0 losses, adjusted p < 0.001 (exact McNemar)" in text
    lines = record(v)
    assert lines["Is the data labelled, and by whom?"].evidence == "two engineers"
    assert "sha256 abababab" in lines["Was success defined beforehand and measured on held-out data?"].evidence
    assert lines["Are the held-out questions unseen in training?"].answer == "yes"
    assert "200 pairs show differences from" in lines["Is the held-out set large enough to show the difference?"].evidence


def test_a_goal_reached_only_by_the_point_estimate_is_said():
    text = " ".join(verdict.decide(facts(ALL | {"tuned": 161})).reasons)
    assert "low end, 0.745, lies below 0.8" in text


def test_the_goals_part_decides_and_the_other_part_is_reported():
    parts = ["ordinary"] * 150 + ["composed"] * 50
    v = verdict.decide(facts(ALL | {"tuned": 155}, part="ordinary", parts=parts))
    assert v.decision == "fine_tune"
    assert any("On part `composed`" in r and "0.100" in r for r in v.reasons)


def test_an_arm_without_regression_is_chosen_over_a_better_one_with():
    right = ALL | {"tuned": 180, "tuned+prompt": 170}
    v = verdict.decide(facts(right, format_right={"tuned": 100}))
    assert v.decision == "fine_tune"
    assert "`tuned+prompt`" in v.headline


def test_an_insignificant_gain_at_the_goal_is_not_a_go():
    v = verdict.decide(facts({"base": 1, "prompt": 15, "tuned": 19}, n=20))
    assert v.decision == "more_data"
    assert "p = 0." in " ".join(v.reasons)


@pytest.mark.parametrize(
    ("why", "answer"),
    [
        ("", "no"),
        ("Prompt tokens cost too much.", "no"),
        ("It is cheaper, and the base model gets the syntax wrong.", "yes"),
        ("We would like it.", "unknown"),
    ],
)
def test_cost_alone_is_flagged(why, answer):
    lines = record(verdict.decide(facts(ALL | {"tuned": 170}, why=why)))
    assert lines["Is there a reason to fine-tune other than cost alone?"].answer == answer


def test_the_record_counts_error_kinds_findings_and_cost():
    wrong = [
        Answer(example_id=str(i), question="q", gold="g", reply="r", score=0.0, why=f"syntax error: line {i}") for i in range(7)
    ]
    finding = Finding(line=3, level="error", code="not_json", message="no")
    v = verdict.decide(
        facts(
            ALL | {"tuned": 170}, answers={"few_shot": wrong}, check=CheckReport.of(1300, (finding,)),
            prices=Prices(machine_hour=3, input_million_tokens=1, output_million_tokens=2),
        )
    )  # fmt: skip
    lines = record(v)
    assert "syntax error (7×)" in lines["Is it known what fails without fine-tuning?"].evidence
    assert lines["Is the data in the right format?"].answer == "no"
    assert "not_json 1×" in lines["Is the data in the right format?"].evidence
    paid = lines["Does it pay off at the stated traffic?"]
    assert paid.answer == "no"  # the best untuned arm, few_shot, is as short as the tuned one here
    assert "never breaks even" in paid.evidence


def test_leaks_that_stay_in_training_are_a_no():
    f = facts(ALL | {"tuned": 170})
    leaky = Facts(
        f.study, f.held_out, f.split.model_copy(update={"n_leaks_removed": 0}), f.arms, f.comparisons, f.best_untuned, f.best_tuned
    )
    assert record(verdict.decide(leaky))["Are the held-out questions unseen in training?"].answer == "no"


def seeds(*values, chosen=0):
    runs = tuple(SeedRun(seed=k, model=f"m{k}", valid_loss=0.1, seconds=1.0) for k in range(len(values)))
    spread = Spread(arm="tuned", grader="execution", part="", values=values, deviation=0.05)
    return SeedReport(runs=runs, chosen=chosen, chosen_by="validation_loss", spreads=(spread,))


HOLDS = "Does the result hold for other training seeds?"


@pytest.mark.parametrize(
    ("values", "answer"),
    [((0.84, 0.86, 0.85), "yes"), ((0.79, 0.9, 0.86), "no"), ((0.2, 0.9, 0.95), "no")],
    ids=["all at the goal", "one misses the goal", "one is worse than the untuned arm"],
)
def test_the_record_says_whether_seeds_agree(values, answer):
    line = record(verdict.decide(facts(ALL | {"tuned": 170}, seeds=seeds(*values))))[HOLDS]
    assert line.answer == answer
    assert f"{values[0]:.3f} (seed 0, chosen), {values[1]:.3f} (seed 1)" in line.evidence
    assert record(verdict.decide(facts(ALL | {"tuned": 170})))[HOLDS].answer == "unknown"


def test_a_chosen_model_below_the_goal_is_said_beside_the_mean_that_reaches_it():
    text = " ".join(verdict.decide(facts(ALL | {"tuned": 170}, seeds=seeds(0.9, 0.78, 0.87, chosen=1))).reasons)
    assert "the model to be used, of seed 1, has 0.780 here" in text
    text = " ".join(verdict.decide(facts(ALL | {"tuned": 170}, seeds=seeds(0.9, 0.78, 0.87))).reasons)
    assert "to be used" not in text

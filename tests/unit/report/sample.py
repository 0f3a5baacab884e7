"""A realistic report, scored and compared by the real code on made-up answers; hostile text included on purpose."""
import numpy as np

from feinschliff.core.ports import GraderFailure, Score
from feinschliff.core.report import (
    Answer,
    ArmReport,
    HeldOut,
    Latency,
    Report,
    SeedReport,
    SeedRun,
    SplitReport,
    Spread,
    TrainingReport,
)
from feinschliff.core.study import Data, Goal, GraderSpec, Prices, Prompt, Retrieval, Study, Traffic
from feinschliff.evals.compare import Scored, best_arm, compare_arms, find, metrics, metrics_by_part
from feinschliff.evals.cost import Usage, cost
from feinschliff.evals.facts import Facts
from feinschliff.evals.learning import Size, learning_curve
from feinschliff.evals.verdict import decide

N = 240
PARTS = ["ordinary"] * 180 + ["composed"] * 60
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)> & {{ 7 * 7 }} </td>'
# arm → (share right on ordinary, on composed, input tokens, output tokens, latency ms)
ARMS = {
    "base": (0.01, 0.0, 58, 61, 1900),
    "prompt": (0.12, 0.03, 640, 48, 2400),
    "few_shot": (0.46, 0.08, 410, 41, 2100),
    "retrieval": (0.07, 0.02, 820, 52, 2700),
    "prompt+few_shot+retrieval": (0.49, 0.1, 1480, 40, 3300),
    "tuned": (0.89, 0.38, 58, 38, 1300),
    "tuned+prompt+retrieval": (0.92, 0.45, 1040, 38, 2300),
}
QUESTIONS = (
    ("Which cities of {} have more than a million people?", "MATCH (c:City)-[:IN]->(k:Country {{name: '{}'}}) WHERE c.population > 1000000 RETURN c.name"),
    ("How many languages are spoken in {}?", "MATCH (k:Country {{name: '{}'}})-[:SPEAKS]->(l:Language) RETURN count(l) AS n"),
    ("What money do people use in {}?", "MATCH (k:Country {{name: '{}'}})-[:USES]->(m:Currency) RETURN m.code"),
)
COUNTRIES = ("Chad", "Peru", "Latvia", "Bhutan", "Gabon", "Österreich", "Côte d'Ivoire", "日本")
WHYS = ("syntax error: unexpected token at 14", "other rows: 0 of 3 found", "unknown label: Town", "empty result")


def study() -> Study:
    return Study(
        name="atlas", task="Questions in plain language to ISO GQL over a world atlas.",
        why="The base model writes invalid GQL even with the schema in the prompt, and the long prompt is slow.",
        tried=("schema in the prompt: 0.10 of 50 by hand",), arms=tuple(ARMS), prompt=Prompt(system="…"),
        data=Data(files=("train.jsonl",), labelled_by="generated from 22 patterns, gold queries executed", curated="read 100 by hand"),
        retrieval=Retrieval(documents=("schema/*.md",)),
        graders=tuple(GraderSpec(name=g, type=g) for g in ("execution", "gql_syntax", "chrf")),
        goal=Goal(grader="execution", at_least=0.8, part="ordinary", not_worse=("gql_syntax",)),
        traffic=Traffic(requests_per_month=200_000),
        prices=Prices(machine_hour=0.9, hosting_hour=0.03, input_million_tokens=0.4, output_million_tokens=1.6),
    )  # fmt: skip


def outcomes(arm: str, seed: int) -> dict[str, list[Score | GraderFailure]]:
    ordinary, composed, *_ = ARMS[arm]
    chance = np.where(np.array(PARTS) == "ordinary", ordinary, composed)
    hard = np.random.default_rng(0).uniform(size=N)  # the same questions are hard for every arm
    rng = np.random.default_rng(seed)
    right = 0.7 * hard + 0.3 * rng.uniform(size=N) < 0.15 + 0.7 * chance - 0.15 * (chance < 0.02)
    parses = right | (rng.uniform(size=N) < 0.3 + 0.6 * chance)
    why = rng.choice(WHYS, size=N)
    execution = [Score(1.0) if r else Score(0.0, str(w)) for r, w in zip(right, why, strict=True)]
    if arm == "few_shot":
        execution[7] = GraderFailure("timed out after 5 s")
    return {
        "execution": execution,
        "gql_syntax": [Score(float(p)) for p in parses],
        "chrf": [Score(float(np.clip(rng.normal(0.5 + 0.4 * r, 0.1), 0, 1))) for r in right],
    }


def answers(arm: str, graded: dict[str, list[Score | GraderFailure]]) -> list[Answer]:
    found = []
    for i, outcome in enumerate(graded["execution"]):
        question, gold = (t.format(COUNTRIES[i % 8]) for t in QUESTIONS[i % 3])
        ok = isinstance(outcome, Score) and outcome.value == 1
        reply = gold if ok else (HOSTILE if i % 40 == 0 else gold.replace("MATCH", "FIND").replace("RETURN", "WHERE TRUE\nRETURN"))
        score, why = (outcome.value, outcome.why) if isinstance(outcome, Score) else (None, outcome.error)
        found.append(
            Answer(example_id=f"{i:04d}", question=question, gold=gold, reply=reply, score=score, why=why, part=PARTS[i])
        )
    return found


def arm_report(name: str, scored: Scored, best: str, found: list[Answer], tokens: dict[str, Usage]) -> ArmReport:
    plan, (_, _, n_in, n_out, ms) = study(), ARMS[name]
    against = find(compare_arms(scored, best), name, "execution", "ordinary")
    return ArmReport(
        name=name, metrics=metrics(scored, name), parts=metrics_by_part(scored, name), input_tokens=n_in, output_tokens=n_out,
        latency_ms=Latency(p50=ms, p95=ms * 1.4, n=8), answering_seconds=N * ms / 9000,
        cost=cost(plan.prices, plan.traffic, tokens[name], cost(plan.prices, plan.traffic, tokens[best], None)),
        wins=against.wins if against else 0, losses=against.losses if against else 0,
        worst=tuple([a for a in found if a.score == 0][:8]),
    )  # fmt: skip


def sample() -> tuple[Report, dict[str, list[Answer]]]:
    """(report, arm → all its answers)."""
    plan = study()
    graded = {arm: outcomes(arm, i + 1) for i, arm in enumerate(ARMS)}
    scored = Scored(graded, PARTS, draws=400)
    tokens = {a: v[2] for a, v in ARMS.items()}
    best = {t: best_arm(scored, grader="execution", part="ordinary", input_tokens=tokens, tuned=t) for t in (False, True)}
    replies = {arm: answers(arm, graded[arm]) for arm in ARMS}
    usage = {a: Usage(v[2], v[3], 1080.0 if "tuned" in a else 0.0, "tuned" in a) for a, v in ARMS.items()}
    arms = tuple(arm_report(a, scored, best[False], replies[a], usage) for a in ARMS)
    held = HeldOut(n=N, sha256="9f2c" * 16, parts={"ordinary": 180, "composed": 60})
    split = SplitReport(
        n_read=1512, n_train=1180, n_validation=62, n_test=N, n_duplicates_removed=7,
        leaks={"exact": 0, "normalised": 4, "near_duplicate": 19, "shared_answer": 88}, n_leaks_removed=23,
        n_train_used=1180, n_too_long=0,
    )  # fmt: skip
    comparisons = compare_arms(scored, best[False])
    facts = Facts(plan, held, split, arms, comparisons, best[False], best[True], answers=replies)
    steps = range(1, 223)
    noise = np.random.default_rng(0).normal(0, 0.02, 223)
    losses = tuple((s, float(0.05 + 1.9 * np.exp(-s / 22) + abs(noise[s]))) for s in steps)
    training = TrainingReport(
        method="LoRA r=16, alpha=32, all linear", precision="bf16", steps=222, epochs=3, seconds=1080.0, trained_tokens=136_400,
        peak_memory_bytes=2_147_000_000, first_train_loss=losses[0][1], last_train_loss=losses[-1][1], valid_loss=0.081,
        losses=losses, valid_losses=((74, 0.14), (148, 0.093), (222, 0.081)),
    )  # fmt: skip
    report = Report(
        study=plan.name, task=plan.task, why=plan.why, tried=plan.tried, created_at="2026-05-04T09:30:00Z",
        base_model="smollm2-135m-instruct", base_model_sha256="5af5" * 16, goal="execution ≥ 0.80 on ordinary",
        goal_grader="execution", goal_part="ordinary", goal_at_least=0.8, held_out=held, split=split, arms=arms, best_untuned=best[False],
        best_tuned=best[True], comparisons=comparisons, training=training, verdict=decide(facts),
        versions={"feinschliff": "0.1.0", "python": "3.11.2", "torch": "2.9.0"}, seeds={"split": 0, "training": 0, "model": 0},
        device="cpu, 2 threads", timings_s={"split": 1.2, "training": 1080.0, "tuned": 36.0},
    )  # fmt: skip
    return report, replies


def with_trainings(report: Report, n_seeds: int = 3) -> Report:
    """The same, had it trained with several seeds and on smaller parts of the data."""
    runs = tuple(SeedRun(seed=k, model=f"runs/{k}/model", valid_loss=0.08 + k / 100, seconds=1000.0) for k in range(n_seeds))
    spreads = tuple(
        Spread(arm=arm, grader=grader, part=part, values=tuple(0.9 - k / 50 for k in range(n_seeds)), deviation=0.02)
        for arm in ("tuned", "tuned+prompt+retrieval") for grader in report.arms[0].metrics for part in ("", "ordinary", "composed")
    )  # fmt: skip
    sizes = [
        Size(share, round(1180 * share), [{"execution": [Score(float(i % 20 < right + k)) for i in range(N)]} for k in range(n_seeds)], 0.1)
        for share, right in ((0.25, 9), (0.5, 14), (1.0, 17))
    ]  # fmt: skip
    curve = learning_curve(sizes, "tuned", study().goal, Scored({}, PARTS, draws=200))
    seeds = SeedReport(runs=runs, chosen=0, chosen_by="validation_loss", spreads=spreads)
    return report.model_copy(update={"seed_runs": seeds, "learning_curve": curve})

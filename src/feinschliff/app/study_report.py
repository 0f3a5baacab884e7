"""From replies to report: grade, compare, cost, judge, and write report.json and failures.jsonl."""
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from feinschliff.app.study_answers import ArmFolder, Outcome
from feinschliff.app.study_folder import Layout
from feinschliff.app.study_graders import Graders
from feinschliff.app.study_hosted import hosted_reports
from feinschliff.app.study_parts import StudyParts
from feinschliff.app.study_repeats import Repeats
from feinschliff.app.study_trainings import Trained, folder_of, planned, valid_loss
from feinschliff.core.chat import Example
from feinschliff.core.jobs import Finished, Started, Step, TrainEvent, Validation
from feinschliff.core.ports import Reply, Score
from feinschliff.core.report import (
    Answer,
    ArmReport,
    Comparison,
    Cost,
    HostedReport,
    Latency,
    Report,
    TrainingReport,
)
from feinschliff.core.study import Goal, Study
from feinschliff.data.files import write_text
from feinschliff.evals import stats
from feinschliff.evals.compare import (
    WHOLE,
    Scored,
    best_arm,
    compare_arms,
    find,
    is_tuned,
    metrics,
    metrics_by_part,
)
from feinschliff.evals.cost import Usage, cost, hosted_cost
from feinschliff.evals.facts import Facts
from feinschliff.evals.verdict import decide

if TYPE_CHECKING:
    from feinschliff.app.study_hosted import Host
    from feinschliff.app.study_run import Backends, Observer

MAX_POINTS = 400  # of a loss curve in the report


def write(
    study: Study, layout: Layout, parts: StudyParts, graders: Graders, trained: Trained, backends: "Backends",
    timings: Mapping[str, float], observer: "Observer",
) -> Report:  # fmt: skip
    """Grade everything and write OUT/report.json and OUT/failures.jsonl."""
    folders = {a: folder_of(study, layout, trained.chosen, a) for a in study.arms}
    outcomes = _grade(study, folders, parts, graders, observer)
    repeats = Repeats(study, layout, parts, graders, trained)
    scored = replace(_scored(study, parts, outcomes), repeats=repeats.graded())
    labels = scored.parts
    replies = {a: folders[a].replies("test", len(parts.test)) for a in study.arms}
    events = trained.events[trained.chosen.job_id] if trained.chosen else ()
    training = _training(study, events, f"runs/{trained.chosen.job_id}/model" if trained.chosen else "")
    seeds, curve = repeats.seed_report(scored), repeats.learning_curve(scored)
    tokens = {a: _mean(r.input_tokens for r in replies[a]) for a in study.arms}
    untuned, tuned = (
        best_arm(scored, grader=study.goal.grader, part=study.goal.part, input_tokens=tokens, tuned=t) for t in (False, True)
    )
    comparisons = compare_arms(scored, untuned)
    answers = {a: _answers(parts.test, replies[a], outcomes[a][study.goal.grader], labels) for a in study.arms}
    usages = {
        a: Usage(tokens[a], _mean(r.output_tokens for r in replies[a]), training.seconds if training else 0.0, is_tuned(a))
        for a in study.arms
    }
    hosted = hosted_reports(study, layout, trained, backends.hosts)
    costs = _costs(study, usages, untuned, hosted, backends.hosts)
    arms = tuple(
        ArmReport(
            name=a, metrics=metrics(scored, a), extra=_extra(study, outcomes[a], parts.test), parts=metrics_by_part(scored, a),
            input_tokens=tokens[a], output_tokens=usages[a].output_tokens, latency_ms=_latency(folders[a].latencies_ms() or []),
            answering_seconds=folders[a].seconds("test", len(parts.test)),
            cost=costs[a],
            wins=_against(comparisons, a, study.goal)[0], losses=_against(comparisons, a, study.goal)[1],
            worst=_worst(answers[a], study.measure.worst_answers),
        )
        for a in study.arms
    )  # fmt: skip
    n_too_long = next((e.n_too_long for e in reversed(events) if isinstance(e, Started)), 0)
    split = parts.record.split.model_copy(
        update={"n_too_long": n_too_long, "n_train_used": len(parts.train) - n_too_long}
    )
    facts = Facts(
        study=study, held_out=parts.record.held_out, split=split, arms=arms, comparisons=comparisons, best_untuned=untuned,
        best_tuned=tuned, check=parts.record.check, answers=answers, seeds=seeds, curve=curve,
    )  # fmt: skip
    report = Report(
        study=study.name, task=study.task, why=study.why, tried=study.tried,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"), base_model=study.model.base,
        base_model_sha256=backends.base_sha256, goal=_goal_words(study), goal_grader=study.goal.grader,
        goal_part=study.goal.part or "", goal_at_least=study.goal.at_least, held_out=parts.record.held_out, split=split,
        arms=arms, best_untuned=untuned or "", best_tuned=tuned, comparisons=comparisons, training=training, seed_runs=seeds, hosted=hosted,
        learning_curve=curve,
        verdict=decide(facts), versions=backends.versions,
        seeds={"split": study.split.seed, "training": study.training.seed, "answers": study.model.seed},
        device=backends.device, timings_s=dict(timings),
    )  # fmt: skip
    write_text(layout.out / "report.json", report.model_dump_json(indent=2))
    _write_failures(study, layout, parts, graders, answers, untuned)
    return report


def _costs(
    study: Study, usages: Mapping[str, Usage], untuned: str | None, hosted: Sequence[HostedReport], hosts: "Mapping[str, Host]"
) -> dict[str, Cost]:
    """Every arm's, at the prices of where it is answered, beside the best untuned arm's at its own."""
    charged = {report.name: report for report in hosted}

    def of(arm: str, rival: Cost | None) -> Cost:
        host, tuned = study.host_of(arm), is_tuned(arm)
        if host is None:
            return cost(study.prices, study.traffic, usages[arm], rival)
        training = charged[host].training_money if tuned else 0.0
        return hosted_cost(hosts[host].prices(tuned=tuned), charged[host].currency, training, study.traffic, usages[arm], rival)

    rival = of(untuned, None) if untuned else None
    return {arm: of(arm, rival) for arm in usages}


def read_answers(
    study: Study, base: Path, layout: Layout, parts: StudyParts, report: Report
) -> dict[str, tuple[Answer, ...]]:
    """Every arm's held-out answers with their scores, for the side-by-side pages; from what `report`'s run left on disk."""
    labels = [parts.part_of(e, study.split.part) for e in parts.test]
    seed = report.seed_runs.chosen if report.seed_runs else study.training.seed
    training = next((t for t in planned(study, layout) if t.whole and t.seed == seed), None)
    folders = {a: folder_of(study, layout, training, a) for a in study.arms}
    with Graders(study, base) as graders:
        return {
            a: _answers(
                parts.test, folder.replies("test", len(parts.test)),
                folder.graded(graders, study.goal.grader, "test", parts.test), labels,
            )
            for a, folder in folders.items()
        }  # fmt: skip


def best_untuned(
    study: Study, arms: Sequence[str], layout: Layout, parts: StudyParts, graders: Graders
) -> str | None:
    """The one of these answered arms that the report will compare with; None where there is none."""
    goal = study.goal.grader
    outcomes = {a: {goal: layout.arm(a).graded(graders, goal, "test", parts.test)} for a in arms}
    tokens = {a: _mean(r.input_tokens for r in layout.arm(a).replies("test", len(parts.test))) for a in arms}
    scored = _scored(study, parts, outcomes)
    return best_arm(scored, grader=goal, part=study.goal.part, input_tokens=tokens, tuned=False)


def _scored(study: Study, parts: StudyParts, outcomes: Mapping[str, Mapping[str, Sequence[Outcome]]]) -> Scored:
    labels = [parts.part_of(e, study.split.part) for e in parts.test]
    clusters = [str(e.meta.get(study.split.group, "")) for e in parts.test] if study.split.group else None
    return Scored(outcomes=outcomes, parts=labels, clusters=clusters, draws=study.measure.bootstrap)


def _grade(
    study: Study, folders: Mapping[str, ArmFolder], parts: StudyParts, graders: Graders, observer: "Observer"
) -> dict[str, dict[str, list[Outcome]]]:
    observer.stage("grading", len(study.arms) * len(study.graders))
    outcomes: dict[str, dict[str, list[Outcome]]] = {}
    for arm in study.arms:
        outcomes[arm] = {}
        for spec in study.graders:
            outcomes[arm][spec.name] = folders[arm].graded(graders, spec.name, "test", parts.test)
            observer.advance(sum(len(done) for done in outcomes.values()))
    return outcomes


def _answers(
    examples: Sequence[Example], replies: Sequence[Reply], outcomes: Sequence[Outcome], labels: Sequence[str]
) -> tuple[Answer, ...]:
    return tuple(
        Answer(
            example_id=e.id, question=e.question, gold=e.answer, reply=r.text, part=label,
            score=o.value if isinstance(o, Score) else None, why=o.why if isinstance(o, Score) else f"grader failed: {o.error}",
        )
        for e, r, o, label in zip(examples, replies, outcomes, labels, strict=True)
    )  # fmt: skip


def _worst(answers: Sequence[Answer], n: int) -> tuple[Answer, ...]:
    scored = [a for a in answers if a.score is not None and a.score < 1]
    return tuple(sorted(scored, key=lambda a: a.score or 0.0)[:n])


def _against(comparisons: Sequence[Comparison], arm: str, goal: Goal) -> tuple[int, int]:
    """Wins and losses among the goal's questions: those that the difference beside them is of."""
    found = find(comparisons, arm, goal.grader, goal.part or WHOLE)
    return (found.wins, found.losses) if found else (0, 0)


def _extra(study: Study, outcomes: Mapping[str, Sequence[Outcome]], test: Sequence[Example]) -> dict[str, float]:
    """Macro-F1 for label graders: accuracy alone hides the rare labels."""
    extra: dict[str, float] = {}
    for spec in study.graders:
        if spec.type == "label":
            pairs = [(e.answer.strip(), o.label) for e, o in zip(test, outcomes[spec.name], strict=True) if isinstance(o, Score)]
            extra[f"{spec.name}/macro_f1"] = stats.macro_f1([g for g, _ in pairs], [p for _, p in pairs]).value
    return extra


def _latency(times_ms: Sequence[float]) -> Latency:
    if not times_ms:
        return Latency(p50=None, p95=None, n=0)
    p50, p95 = np.percentile(times_ms, [50, 95])
    return Latency(p50=float(p50), p95=float(p95), n=len(times_ms))


def _training(study: Study, events: Sequence[TrainEvent], model: str) -> TrainingReport | None:
    """The run as its events tell it; a step that was repeated after a kill counts once, as it went last."""
    steps = {e.step: e for e in events if isinstance(e, Step)}
    validations = {e.step: e for e in events if isinstance(e, Validation)}
    finished = next((e for e in reversed(events) if isinstance(e, Finished)), None)
    started = next((e for e in reversed(events) if isinstance(e, Started)), None)
    if finished is None or started is None or not steps:
        return None
    ordered = [steps[s] for s in sorted(steps)]
    thin = ordered[:: -(-len(ordered) // MAX_POINTS)]
    return TrainingReport(
        method=study.training.method.kind, precision=started.precision, steps=finished.step,
        epochs=math.ceil(ordered[-1].epoch), seconds=finished.seconds, trained_tokens=finished.trained_tokens,
        peak_memory_bytes=finished.peak_memory_bytes, first_train_loss=ordered[0].train_loss,
        last_train_loss=ordered[-1].train_loss, valid_loss=valid_loss(study, events),
        losses=tuple((s.step, s.train_loss) for s in thin),
        valid_losses=tuple((s, validations[s].valid_loss) for s in sorted(validations)), model=model,
    )  # fmt: skip


def _goal_words(study: Study) -> str:
    where = f" on the part {study.goal.part!r}" if study.goal.part else ""
    return f"{study.goal.grader} at least {study.goal.at_least:g}{where}"


def _mean(values: Iterable[float]) -> float:
    collected = list(values)
    return sum(collected) / len(collected) if collected else 0.0


def _write_failures(
    study: Study, layout: Layout, parts: StudyParts, graders: Graders, answers: Mapping[str, Sequence[Answer]], best: str | None
) -> None:
    """What untuned arms got wrong, ready to be labelled.

    Rows of the validation part may be added to the training data; those of the held-out set are there to be read, and
    `feinschliff data add-failures` refuses them.
    """
    rows: list[dict[str, object]] = []
    for arm, given in answers.items():
        if not is_tuned(arm):
            rows += [_failure(e, a, arm, "test") for e, a in zip(parts.test, given, strict=True) if a.score is not None and a.score < 1]
    if best is not None:
        outcomes = layout.arm(best).graded(graders, study.goal.grader, "validation", parts.validation)
        replies = layout.arm(best).replies("validation", len(parts.validation))
        checked = _answers(parts.validation, replies, outcomes, [""] * len(parts.validation))
        rows += [_failure(e, a, best, "validation") for e, a in zip(parts.validation, checked, strict=True) if a.score is not None and a.score < 1]
    write_text(layout.out / "failures.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _failure(example: Example, answer: Answer, arm: str, part: str) -> dict[str, object]:
    return {
        "messages": [m.model_dump(exclude_none=True) for m in example.messages], "reply": answer.reply, "labelled": True,
        "arm": arm, "part": part, "score": answer.score, "why": answer.why, "example_id": answer.example_id,
    }  # fmt: skip

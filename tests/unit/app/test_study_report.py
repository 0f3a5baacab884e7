"""The pieces a report is put together from."""
from feinschliff.app import study_report
from feinschliff.core.chat import Example, assistant, user
from feinschliff.core.jobs import Finished, Started, Step, Validation
from feinschliff.core.ports import GraderFailure, Score
from feinschliff.core.report import Answer, Latency
from feinschliff.core.study import Data, Goal, GraderSpec, Study
from feinschliff.evals.compare import Scored, compare_arms

STUDY = Study(
    name="s", task="t", why="w", arms=("base",), data=Data(files=("d",)), graders=(GraderSpec(name="intent", type="label"),),
    goal=Goal(grader="intent", at_least=0.5),
)  # fmt: skip


def step(number, loss):
    return Step(
        step=number, total_steps=1000, epoch=1.0, train_loss=loss, train_token_accuracy=0.5, learning_rate=0.1, grad_norm=1.0,
        trained_tokens=1, logical_tokens=1, computed_tokens=1, seconds=1.0, eta_s=1.0,
    )  # fmt: skip


def started(first):
    return Started(total_steps=3, first_step=first, n_examples=3, n_too_long=0, precision="fp32", trainable_parameters=1)


FINISHED = Finished(step=3, trained_tokens=3, path="model", seconds=9.0, peak_memory_bytes=1)


def test_step_repeated_after_a_kill_counts_once_as_it_went_last():
    events = [started(0), step(1, 3.0), step(2, 2.9), started(1), step(2, 2.0), step(3, 1.0), FINISHED]
    training = study_report._training(STUDY, events, "m")
    assert training is not None
    assert training.losses == ((1, 3.0), (2, 2.0), (3, 1.0))
    assert (training.first_train_loss, training.last_train_loss, training.valid_loss) == (3.0, 1.0, None)


def test_long_curves_are_thinned_and_the_last_validation_counts():
    valid = [Validation(step=s, valid_loss=1 / s, valid_token_accuracy=0, n_tokens=1) for s in (500, 1000)]
    events = [started(0), *(step(s, 1 / s) for s in range(1, 1001)), *valid, FINISHED]
    training = study_report._training(STUDY, events, "m")
    assert training is not None
    assert len(training.losses) <= study_report.MAX_POINTS
    assert training.valid_loss == 1 / 1000


def test_unfinished_training_is_none():
    assert study_report._training(STUDY, [started(0), step(1, 1.0)], "m") is None


def test_macro_f1_pairs_stripped_golds_with_labels_and_leaves_failures_out():
    test = [Example(messages=(user("q"), assistant(gold))) for gold in ("card ", "loan", "card")]
    outcomes = {"intent": [Score(1, label="card"), Score(1, label="loan"), GraderFailure("broke")]}
    assert study_report._extra(STUDY, outcomes, test) == {"intent/macro_f1": 1.0}


def answer(score):
    return Answer(example_id=str(score), question="q", gold="g", reply="r", score=score)


def test_worst_are_the_lowest_scores_and_no_right_ones():
    given = [answer(s) for s in (0.5, None, 1.0, 0.0, 0.9)]
    assert [a.score for a in study_report._worst(given, 2)] == [0.0, 0.5]


def test_latency_of_nothing_is_none():
    assert study_report._latency([]) == Latency(p50=None, p95=None, n=0)
    assert study_report._latency([1.0, 3.0]).p50 == 2.0


def test_wins_and_losses_are_of_the_goals_part():
    right = {"base": "0011 0011", "tuned": "1110 1001"}  # two parts of four questions
    graded = {arm: {"intent": [Score(float(c)) for c in marks.replace(" ", "")]} for arm, marks in right.items()}
    comparisons = compare_arms(Scored(graded, ["ordinary"] * 4 + ["odd"] * 4, draws=50), "base")
    of = {part: study_report._against(comparisons, "tuned", Goal(grader="intent", at_least=0.5, part=part)) for part in (None, "ordinary", "odd")}
    assert of == {None: (3, 2), "ordinary": (2, 1), "odd": (1, 1)}
    assert study_report._against(comparisons, "base", Goal(grader="intent", at_least=0.5)) == (0, 0)

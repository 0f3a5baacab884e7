"""What several trainings of one study say together: seed by seed, and along the learning curve."""
from dataclasses import dataclass
from statistics import fmean, stdev

from feinschliff.app.study_answers import Outcome
from feinschliff.app.study_folder import Layout
from feinschliff.app.study_graders import Graders
from feinschliff.app.study_parts import StudyParts
from feinschliff.app.study_training import examples_of
from feinschliff.app.study_trainings import Trained, Training, answers_of, asked_of, valid_loss
from feinschliff.core.jobs import Finished
from feinschliff.core.report import LearningCurve, SeedReport, SeedRun, Spread
from feinschliff.core.study import Study
from feinschliff.evals import learning
from feinschliff.evals.compare import WHOLE, Scored, is_tuned, run_means


@dataclass(frozen=True, slots=True)
class Repeats:
    """The trainings of a study beside the chosen one; where there is but one, there is nothing to tell."""

    study: Study
    layout: Layout
    parts: StudyParts
    graders: Graders
    trained: Trained

    def graded(self) -> dict[str, list[dict[str, list[Outcome]]]]:
        """Tuned arm → grader → outcomes, once a seed; empty with one seed."""
        whole = self.trained.whole
        tuned = [arm for arm in self.study.arms if is_tuned(arm)] if len(whole) > 1 else []
        return {arm: [self._grades(training, arm) for training in whole] for arm in tuned}

    def seed_report(self, scored: Scored) -> SeedReport | None:
        """Seed by seed, for every tuned arm, grader and part."""
        whole, chosen = self.trained.whole, self.trained.chosen
        if chosen is None or len(whole) < 2:
            return None
        runs = tuple(self._run(training) for training in whole)
        spreads = [
            Spread(arm=arm, grader=grader, part=part, values=values, deviation=stdev(values))
            for arm in scored.repeats
            for grader in scored.outcomes[arm]
            for part in (WHOLE, *scored.part_names)
            if (values := run_means(scored, arm, grader, part))
        ]
        by_loss = all(run.valid_loss is not None for run in runs)
        return SeedReport(
            runs=runs, chosen=chosen.seed, chosen_by="validation_loss" if by_loss else "first", spreads=tuple(spreads)
        )

    def learning_curve(self, scored: Scored) -> LearningCurve | None:
        """By the goal's grader; None where the study asks for no smaller parts of its data."""
        sizes = self.trained.sizes()
        if len(sizes) < 2:
            return None
        arm = asked_of(self.study, self.trained.trainings[0])[0]
        measured = [self._size(share, trainings, arm) for share, trainings in sizes.items()]
        return learning.learning_curve(measured, arm, self.study.goal, scored)

    def _size(self, share: float, trainings: tuple[Training, ...], arm: str) -> learning.Size:
        losses = [valid_loss(self.study, self.trained.events[t.job_id]) for t in trainings]
        known = [loss for loss in losses if loss is not None]
        return learning.Size(
            share=share,
            n_examples=round(fmean(len(examples_of(t, self.study, self.parts)) for t in trainings)),
            runs=[self._grades(t, arm, self.study.goal.grader) for t in trainings],
            valid_loss=fmean(known) if known else None,
        )

    def _grades(self, training: Training, arm: str, *names: str) -> dict[str, list[Outcome]]:
        folder = answers_of(self.layout, training, arm)
        wanted = names or tuple(spec.name for spec in self.study.graders)
        return {name: folder.graded(self.graders, name, "test", self.parts.test) for name in wanted}

    def _run(self, training: Training) -> SeedRun:
        events = self.trained.events[training.job_id]
        finished = next(e for e in reversed(events) if isinstance(e, Finished))
        return SeedRun(
            seed=training.seed, model=f"runs/{training.job_id}/{finished.path}", valid_loss=valid_loss(self.study, events),
            seconds=finished.seconds,
        )  # fmt: skip

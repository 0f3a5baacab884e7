"""Which trainings a study makes: one, or one a seed, and those of a learning curve; where each lies, and which is chosen."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from feinschliff.app.study_answers import ArmFolder
from feinschliff.app.study_folder import Layout
from feinschliff.core.jobs import Finished, JobId, TrainEvent, Validation
from feinschliff.core.study import Study
from feinschliff.evals.compare import is_tuned

Events = Mapping[JobId, Sequence[TrainEvent]]


@dataclass(frozen=True, slots=True)
class Training:
    """One training of a study: on `share` of the training part, with `seed`. Its job id is its folder under OUT/runs."""

    job_id: JobId
    seed: int
    share: float
    first: bool  # the one that a study without seeds and curve makes, and makes in the same place
    host: str = ""  # the [hosted.NAME] that makes it; "": this machine

    @property
    def whole(self) -> bool:
        return self.share == 1

    def __str__(self) -> str:
        if self.host:
            return self.host
        return f"seed {self.seed}" if self.whole else f"{self.share:g} of the data, seed {self.seed}"


def planned(study: Study, layout: Layout) -> tuple[Training, ...]:
    """This machine's trainings, those on all data first, by seed. The others lie in the first one's folder, so that they move with it."""
    if not any(is_tuned(arm) and study.host_of(arm) is None for arm in study.arms):
        return ()
    seeds = range(study.training.seed, study.training.seed + study.training.seeds)
    shares = [1.0, *(share for share in study.training.learning_curve if share < 1)]
    return tuple(_training(study, layout, seed, share) for share in shares for seed in seeds)


def planned_elsewhere(study: Study, layout: Layout) -> tuple[Training, ...]:
    """One a hosted model that an arm wants tuned: with the first seed, on all data. They move with the first one's folder, too."""
    hosts = dict.fromkeys(host for arm in study.arms if is_tuned(arm) and (host := study.host_of(arm)))
    return tuple(
        Training(JobId(f"{layout.run.name}/hosted/{host}"), study.training.seed, 1.0, first=False, host=host) for host in hosts
    )


def _training(study: Study, layout: Layout, seed: int, share: float) -> Training:
    first = share == 1 and seed == study.training.seed
    name = f"seed-{seed}" if share == 1 else f"share-{share:g}-seed-{seed}"
    return Training(JobId(layout.run.name if first else f"{layout.run.name}/more/{name}"), seed, share, first)


def asked_of(study: Study, training: Training) -> tuple[str, ...]:
    """The arms that its model answers: all tuned ones, or the first of them for a point of the learning curve."""
    tuned = tuple(arm for arm in study.arms if is_tuned(arm) and (study.host_of(arm) or "") == training.host)
    return tuned if training.whole else tuned[:1]


def answers_of(layout: Layout, training: Training, arm: str) -> ArmFolder:
    """Where the answers of this training's model lie."""
    return layout.arm(arm) if training.first or training.host else ArmFolder(layout.runs / training.job_id / "arms" / arm)


@dataclass(frozen=True, slots=True)
class Trained:
    """The trainings of a study and what they told; nothing where no arm is tuned. Only this machine's are repeated and chosen from."""

    trainings: tuple[Training, ...]
    events: Events
    chosen: Training | None
    elsewhere: tuple[Training, ...] = ()

    @property
    def whole(self) -> tuple[Training, ...]:
        """Those on all data, one a seed."""
        return tuple(training for training in self.trainings if training.whole)

    def sizes(self) -> Mapping[float, tuple[Training, ...]]:
        """Share of the data → its trainings, one a seed; ascending, all data last."""
        shares = sorted({training.share for training in self.trainings})
        return {share: tuple(t for t in self.trainings if t.share == share) for share in shares}


def folder_of(study: Study, layout: Layout, training: Training | None, arm: str) -> ArmFolder:
    """An arm's answers; those of an arm tuned on this machine are this training's model's."""
    own = training is not None and arm in asked_of(study, training)
    return answers_of(layout, training, arm) if training is not None and own else layout.arm(arm)


def chosen(study: Study, trainings: Sequence[Training], events: Events) -> Training | None:
    """The training whose model is proposed for use: of those on all data the one of the lowest validation loss, then the first.

    Held-out scores have no say: the best of several on the held-out set would look better there than it is.
    """
    whole = [training for training in trainings if training.whole]
    losses = [valid_loss(study, events[training.job_id]) for training in whole]
    ranked = [(loss, n) for n, loss in enumerate(losses) if loss is not None]
    return whole[min(ranked)[1]] if ranked else next(iter(whole), None)


def valid_loss(study: Study, events: Sequence[TrainEvent]) -> float | None:
    """Of the model that the training left: the best one's where that was kept, else the last; None where none was measured."""
    finished = next((e for e in reversed(events) if isinstance(e, Finished)), None)
    if study.training.keep_best and finished is not None and finished.best_valid_loss is not None:
        return finished.best_valid_loss
    validations = {e.step: e.valid_loss for e in events if isinstance(e, Validation)}
    return validations[max(validations)] if validations else None

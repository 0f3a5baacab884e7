"""What a run settles before its first step, and a resumed run finds settled: precision, library, hyperparameters."""
from collections.abc import Sequence
from dataclasses import dataclass

from feinschliff.core.chat import Rendered
from feinschliff.core.jobs import (
    Library,
    LrProbe,
    MatrixSpeed,
    ResolvedHyperparameters,
    Started,
    TrainEvent,
    TrainSpec,
)
from feinschliff.train import machine
from feinschliff.train.auto import Facts, resolve
from feinschliff.train.device import ON_CPU, Device
from feinschliff.train.parallel import ALONE, Ranks
from feinschliff.train.shape import ModelShape
from feinschliff.train.state import Saved


@dataclass(frozen=True, slots=True)
class Decisions:
    precision: str
    precision_reason: str
    library: Library
    speed: MatrixSpeed  # of this start's machines together
    hyperparameters: ResolvedHyperparameters
    probed: bool  # the learning rate is an earlier start's range probe


def decide(
    spec: TrainSpec, shape: ModelShape, examples: Sequence[Rendered], saved: Saved | None, earlier: Sequence[TrainEvent],
    ranks: Ranks = ALONE, device: Device = ON_CPU,
) -> Decisions:
    """Decide for a first start, or repeat what the first start decided as its saved state and events tell."""
    own = machine.measure(shape, device)
    bf16, fp32, fp32_onednn = ranks.total(own.bf16, own.fp32, own.fp32_onednn)
    speed = MatrixSpeed(bf16=bf16, fp32=fp32, fp32_onednn=fp32_onednn)
    h = resolve(spec.hyperparameters, Facts.of(examples, shape, spec.method))
    told = next((e for e in earlier if isinstance(e, LrProbe)), None)
    if told:
        why = f"learning_rate {told.learning_rate:g}: {told.reason}"
        h = h.model_copy(update={"learning_rate": told.learning_rate, "reasons": (*h.reasons, why)})
    # Measurements vary, so a run that was killed before its first saved state asks its log.
    first = next((e for e in earlier if isinstance(e, Started)), None)
    library = first.fp32_library if first else machine.library(spec, shape, speed)  # every rank has the same log and sums
    if not speed.fp32_onednn:  # gone on with on another machine
        library = "blas"
    if before := saved.precision if saved else first.precision if first else None:
        precision, reason = before, "as in the run's first start"
    else:
        precision, reason = machine.choose(spec, shape, speed)
    return Decisions(ranks.agreed(precision), reason, library, speed, h, probed=told is not None)

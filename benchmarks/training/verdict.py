"""What the issue asks for, computed from the measurements: ratios of speed and memory, arithmetic rate, equal losses."""
from collections.abc import Iterator
from dataclasses import dataclass

from results import WARM_UP, Measurement, Results
from systems import SYSTEMS

OURS = "feinschliff-bf16"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One number with its goal. `value` None: not measured."""

    question: str
    value: float | None
    goal: float
    at_least: bool = True  # otherwise at most
    compared_with: str = ""

    @property
    def reached(self) -> bool:
        return self.value is not None and (self.value >= self.goal if self.at_least else self.value <= self.goal)


def all_of(results: Results) -> list[Verdict]:
    return [
        _speed(results, "S", libraries=False, goal=15),
        _speed(results, "D", libraries=False, goal=6),
        _speed(results, "S", libraries=True, goal=6),
        _speed(results, "D", libraries=True, goal=3.5),
        _speed(results, "S32", libraries=True, goal=8),
        _memory(results, "S", goal=0.25),
        _memory(results, "D", goal=0.5),
        _arithmetic(results, "D", goal=0.6),
        *_losses(results),
    ]


def common_steps(a: Measurement, b: Measurement) -> int:
    """Both are compared on the first steps that both have done."""
    return min(len(a.measured), len(b.measured))


def speed_ratio(ours: Measurement, other: Measurement) -> float:
    """Examples per second, ours to theirs, over the same steps (packed rows: over as many)."""
    n = common_steps(ours, other)
    return ours.examples_per_s(n) / other.examples_per_s(n)


def best_trl(results: Results, case: str, *, libraries: bool) -> Measurement | None:
    """The fastest TRL setting measured on `case`."""
    found = [m for m in _measured(results, case) if SYSTEMS[m.system].program == "trl" and SYSTEMS[m.system].libraries == libraries]
    return max(found, key=Measurement.examples_per_s, default=None)


def _measured(results: Results, case: str) -> list[Measurement]:
    return [m for m in results.case(case) if m.status == "measured" and m.measured]


def _ours(results: Results, case: str) -> Measurement | None:
    return next((m for m in _measured(results, case) if m.system == OURS), None)


def _speed(results: Results, case: str, *, libraries: bool, goal: float) -> Verdict:
    ours, other = _ours(results, case), best_trl(results, case, libraries=libraries)
    question = f"{case}: examples/s to the best TRL {'with the same libraries' if libraries else 'as it comes'}"
    if ours is None or other is None:
        return Verdict(question, None, goal)
    return Verdict(question, speed_ratio(ours, other), goal, compared_with=other.system)


def _memory(results: Results, case: str, goal: float) -> Verdict:
    ours, other = _ours(results, case), best_trl(results, case, libraries=False)
    question = f"{case}: peak memory to the best TRL as it comes"
    if ours is None or other is None:
        return Verdict(question, None, goal, at_least=False)
    return Verdict(question, ours.peak_rss_bytes / other.peak_rss_bytes, goal, at_least=False, compared_with=other.system)


def _arithmetic(results: Results, case: str, goal: float) -> Verdict:
    ours, rate = _ours(results, case), results.rates.get(case, {}).get("bf16")
    question = f"{case}: needed operations per second to the bf16 matrix-product rate"
    if ours is None or rate is None:
        return Verdict(question, None, goal)
    return Verdict(question, ours.summary()["gflops"] / rate, goal, compared_with=f"{rate:.0f} GFLOP/s")


def _losses(results: Results) -> Iterator[Verdict]:
    """fp32 runs from one adapter over the same steps: the largest relative difference of their losses."""
    for case in ("S", "D"):
        curves = [m for m in _measured(results, case) if SYSTEMS[m.system].same_losses]
        ours = next((m for m in curves if m.system.startswith("feinschliff")), None)
        for other in curves:
            if ours is not None and other is not ours:
                n = WARM_UP + common_steps(ours, other)
                worst = max(abs(a - b) / b for a, b in zip(ours.losses[:n], other.losses[:n], strict=True))
                question = f"{case}: largest relative difference of the fp32 losses over {n} steps"
                yield Verdict(question, worst, 1e-3, at_least=False, compared_with=other.system)

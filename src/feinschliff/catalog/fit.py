"""Whether a job can be done on some hardware, how long it takes there, and if it can't, the nearest thing that can."""
from typing import Literal

from pydantic import Field

from feinschliff.catalog.facts import Architecture
from feinschliff.catalog.footprint import Needs, Passes, load_peak, needs, trained_parameters
from feinschliff.catalog.models import Catalog, CatalogModel, GgufPackage
from feinschliff.core.chat import Wire
from feinschliff.core.jobs import Full, Lora, Method, Precision

SHARE = 0.8  # of the free memory that a job may take, as in train.memory
MOST_TOKENS = 8192  # in one forward pass
EFFICIENCY = 0.45  # of the machine's matrix rate that a whole step reaches (benchmarks/results: S and D on two cores)
SHORTEST = 64  # tokens; jobs with shorter examples are not proposed

Verdict = Literal["fits", "fits_recomputed", "too_large", "unknown"]


class Hardware(Wire):
    """What a region has for one job. `memory_bytes` is free memory, or with `whole` all of it; the rates are of matrix products, None
    where nobody measured.
    """

    name: str
    memory_bytes: int = Field(ge=0)
    flops_per_s: float | None = Field(None, gt=0)
    bf16: bool = False  # multiplied in hardware
    whole: bool = False

    @property
    def memory(self) -> str:
        return f"{self.name} has {gb(self.memory_bytes)}" if self.whole else f"{gb(self.memory_bytes)} free in {self.name}"


class Work(Wire):
    """What a job computes, in tokens."""

    longest: int = Field(1024, ge=1)  # example
    step: int = Field(16_384, ge=1)  # the largest optimizer step's examples together
    per_epoch: int = Field(0, ge=0)
    trained: int = Field(0, ge=0)  # of them, in the loss
    epochs: int = Field(1, ge=1)


class Fit(Wire):
    verdict: Verdict
    needs_bytes: int | None  # as fast as it goes
    least_bytes: int | None  # one example at a time, layers recomputed
    usable_bytes: int  # SHARE of what is free
    seconds: float | None  # where nothing of the examples is shared; shared prefixes make it less
    why: str
    nearest: tuple[str, ...] = ()  # what would fit


def fit(
    model: CatalogModel, method: Method, precision: Precision, work: Work, hardware: Hardware, catalog: Catalog | None = None
) -> Fit:
    """The forecast for one job. With a catalogue, `nearest` also names the largest model that fits."""
    usable = int(SHARE * hardware.memory_bytes)
    if model.architecture is None:
        return _by_weights_alone(model, usable)
    fast = _passes(work, precision, hardware, recomputed=False)
    frugal = _passes(work, precision, hardware, recomputed=True)
    whole, least = (_total(model, method, p) for p in (fast, frugal))
    verdict: Verdict = "fits" if whole <= usable else "fits_recomputed" if least <= usable else "too_large"
    numbers = f"{gb(whole)} in large passes, {gb(least)} at least; {hardware.memory}, of which {SHARE:.0%} are used"
    return Fit(
        verdict=verdict, needs_bytes=whole, least_bytes=least, usable_bytes=usable,
        seconds=None if verdict == "too_large" else _seconds(model.architecture, method, fast, work, hardware, recomputed=verdict != "fits"),
        why=numbers, nearest=_nearest(model, method, precision, work, hardware, catalog) if verdict == "too_large" else (),
    )  # fmt: skip


def least_bytes(model: CatalogModel, method: Method, tokens: int, width: int = 4) -> int | None:
    """For one example of `tokens` at a time, half of them trained, layers recomputed; None where the model's sizes are not known."""
    if model.architecture is None:
        return None
    return _total(model, method, Passes(tokens, max(1, tokens // 2), width, recomputed=True, several=True))


def gb(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB"


def duration(seconds: float) -> str:
    """To two digits at most: it is a forecast."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def breakdown(model: CatalogModel, method: Method, passes: Passes) -> Needs | None:
    """The peak's parts; None where the model's sizes are not known."""
    return None if model.architecture is None else needs(model.architecture, method, passes, mapped=_mapped(model))


def _by_weights_alone(model: CatalogModel, usable: int) -> Fit:
    """A lower bound: the weights once in two bytes."""
    known = None if model.parameters is None else 2 * model.parameters
    if known is None:
        return Fit(verdict="unknown", needs_bytes=None, least_bytes=None, usable_bytes=usable, seconds=None, why="its size is not known")
    too_large = known > usable
    return Fit(
        verdict="too_large" if too_large else "unknown", needs_bytes=None, least_bytes=known, usable_bytes=usable, seconds=None,
        why=f"its weights alone are {gb(known)}" + ("" if too_large else "; what training adds is not known for its layers"),
    )  # fmt: skip


def _passes(work: Work, precision: Precision, hardware: Hardware, *, recomputed: bool) -> Passes:
    tokens = work.longest if recomputed else max(work.longest, min(work.step, MOST_TOKENS))
    share = work.trained / work.per_epoch if work.per_epoch else 0.5
    width = 2 if precision == "bf16" or (precision == "auto" and hardware.bf16) else 4
    return Passes(
        tokens=tokens, rows=max(1, round(share * tokens)), width=width, recomputed=recomputed, longest=work.longest,
        several=work.step > tokens
    )


def _total(model: CatalogModel, method: Method, passes: Passes) -> int:
    assert model.architecture is not None
    return max(needs(model.architecture, method, passes, mapped=_mapped(model)).total, load_peak(model.architecture))


def _mapped(model: CatalogModel) -> bool:
    """Weights that we converted ourselves are in float32, those on hubs in two bytes."""
    return bool(model.sources) and isinstance(model.sources[0], GgufPackage)


def _seconds(a: Architecture, method: Method, p: Passes, work: Work, hardware: Hardware, *, recomputed: bool) -> float | None:
    """2 operations a weight and token forward, 2 for the inputs' gradients, 2 for the weights' where those are trained."""
    if hardware.flops_per_s is None or not work.per_epoch:
        return None
    times = 6 if isinstance(method, Full) else 4
    low = 6 * trained_parameters(a, method) if isinstance(method, Lora) else 0
    per_epoch = (times * a.linear_parameters + low) * work.per_epoch + times * a.hidden * a.vocabulary * work.trained
    rate = EFFICIENCY * hardware.flops_per_s * (2 if p.width == 2 and hardware.bf16 else 1)
    return work.epochs * per_epoch / rate * (4 / 3 if recomputed else 1)


def _nearest(
    model: CatalogModel, method: Method, precision: Precision, work: Work, hardware: Hardware, catalog: Catalog | None
) -> tuple[str, ...]:
    """Shorter examples, then LoRA, then a smaller model: each alone, where it is enough."""

    def fits(of: CatalogModel, by: Method, longest: int) -> bool:
        shorter = _passes(work.model_copy(update={"longest": longest}), precision, hardware, recomputed=True)
        return _total(of, by, shorter) <= SHARE * hardware.memory_bytes

    found: list[str] = []
    lengths = [n for n in (8192, 4096, 2048, 1024, 512, 256, 128, SHORTEST) if n < work.longest]
    if longest := next((n for n in lengths if fits(model, method, n)), None):
        found.append(f"examples of up to {longest:,} tokens")
    if isinstance(method, Full) and fits(model, Lora(), work.longest):
        found.append("LoRA instead of full fine-tuning")
    others = [m for m in (catalog.models if catalog else ()) if m.architecture and m.sources and m.kind == model.kind]
    smaller = [m for m in others if (m.parameters or 0) < (model.parameters or 0) and fits(m, method, work.longest)]
    if smaller:
        found.append(f"the model {max(smaller, key=lambda m: m.parameters or 0).id}")
    return tuple(found)



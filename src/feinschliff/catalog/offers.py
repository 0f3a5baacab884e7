"""Which model a region tunes, and why not. Pure functions that the command line and the service call before a job exists."""
from collections.abc import Collection
from datetime import date
from typing import assert_never

from feinschliff.catalog.fit import Fit
from feinschliff.catalog.models import HERE, CatalogModel
from feinschliff.catalog.query import plain, tunable
from feinschliff.catalog.regions import Azure, Machine, OpenAi, Ray, Region, Regions, keeps_data
from feinschliff.core.errors import DoesNotFit, NotOffered

ANYWHERE = "Global"  # Azure's name for training without a fixed region


def offered(model: CatalogModel, region: Region) -> bool:
    """Whether a job with it could be put there; dates are another matter (`check_offered`)."""
    if not tunable(model):
        return False
    match region:
        case Machine() | Ray():
            return bool(model.sources)
        case Azure():
            place = region.location if region.training == "standard" else ANYWHERE
            return model.provider == "azure" and plain(place) in map(plain, model.fine_tune_regions)
        case OpenAi():
            return model.provider == "openai"
        case _:
            assert_never(region)


def check_offered(model: CatalogModel, name: str, regions: Regions, today: date) -> None:
    """Raises NotOffered where the region called `name` (one of `regions`) does not tune the model, with those that do; or no longer."""
    region = regions.regions[name]
    shown = f"{model.id} ({model.version})" if model.version and not model.id.endswith(model.version) else model.id
    if not tunable(model):
        how = "by reinforcement only" if model.tuning_methods else "not at all"
        raise NotOffered(f"{shown} is tuned {how}.", hint="Choose another: feinschliff catalog models --task fine-tune")
    if not offered(model, region):
        raise NotOffered(f"{shown} is not tuned in {_place(name, region)}.", hint=_where(model, regions))
    if _ends(model, region) and not model.lifecycle.can_be_tuned(today):
        until = model.lifecycle.fine_tuning_until or model.lifecycle.inference_until
        named = f" {model.lifecycle.replacement} is named as its replacement." if model.lifecycle.replacement else ""
        raise NotOffered(
            f"{shown} can no longer be tuned in {_place(name, region)}" + (f": that ended on {until}." if until else "."),
            hint=f"What still can: feinschliff catalog models --current.{named}",
        )


def notices(model: CatalogModel, region: Region, today: date) -> tuple[str, ...]:
    """What is to be said of a job that is not refused: dates that are reached, or near."""
    told = model.lifecycle.warnings(today)
    if _ends(model, region):
        return told
    return tuple(f"At {model.provider}: {sentence} Weights of one's own go on." for sentence in told)


def check_residency(stays_in: Collection[str], name: str, region: Region, *, what: str = "The data") -> None:
    """Raises NotOffered where data that must stay in one of `stays_in` (names of regions, or Azure's locations) would leave it."""
    if not stays_in:
        return
    names = {plain(name), *([plain(region.location)] if isinstance(region, Azure) else [])}
    allowed = ", ".join(sorted(stays_in))
    if names.isdisjoint(map(plain, stays_in)):
        raise NotOffered(f"{what} must stay in {allowed}; {_place(name, region)} is elsewhere.", hint=f"Run the job in {allowed}.")
    if not keeps_data(region):
        raise NotOffered(
            f"{what} must stay in {allowed}, and {_place(name, region)} does not promise that.",
            hint='Train with training = "standard" there.' if isinstance(region, Azure) else f"Run the job in {HERE}.",
        )


def check_fit(found: Fit, model: CatalogModel, name: str) -> None:
    """Raises DoesNotFit, with the numbers and the nearest thing that fits. What is not known is let through."""
    if found.verdict == "too_large":
        ways = ", or ".join(found.nearest)
        raise DoesNotFit(f"Training {model.id} does not fit into {name}: {found.why}.", hint=f"What fits: {ways}." if ways else "Use another region.")


def _ends(model: CatalogModel, region: Region) -> bool:
    """Whether the model's dates hold there: at its provider, and for a model of one's own wherever it is."""
    return isinstance(region, Azure | OpenAi) or model.provider == HERE


def _place(name: str, region: Region) -> str:
    return f"{name} ({region.location})" if isinstance(region, Azure) and plain(name) != plain(region.location) else name


def _where(model: CatalogModel, regions: Regions) -> str:
    there = list(model.fine_tune_regions)
    if model.sources and HERE not in there:
        there.append(HERE)
    configured = [name for name, region in regions.regions.items() if offered(model, region)]
    said = f"It is tuned in {', '.join(there) or 'no region'}."
    return f"{said} Of those, configured here: {', '.join(configured) or 'none'}."

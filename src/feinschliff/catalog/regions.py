"""Regions: named places where models are tuned. Out of the box there is one, this machine; regions.toml adds others."""
import difflib
import os
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from feinschliff.catalog.models import Catalog
from feinschliff.catalog.query import plain
from feinschliff.core.chat import Wire
from feinschliff.core.errors import BadStudy, RegionNotConfigured

Training = Literal["standard", "global", "developer"]  # Azure's: in the resource's region, anywhere, anywhere on spare capacity


class Quota(Wire):
    """At most so much in a calendar month (UTC); None is no limit."""

    training_tokens_per_month: int | None = Field(None, ge=0)
    money_per_month: float | None = Field(None, ge=0)
    jobs_per_month: int | None = Field(None, ge=0)


class Place(Wire):
    """What all regions have."""

    concurrency: int = Field(1, ge=1)  # jobs at once
    quota: Quota = Quota()


class Machine(Place):
    """This machine."""

    kind: Literal["machine"]
    data_residency: bool = True  # data that is sent there stays there


class Ray(Place):
    """A Ray cluster; the numbers are of one worker. Its machines share the data folder and have the same installation."""

    kind: Literal["ray"]
    data_residency: bool = True
    address: str
    workers: int = Field(1, ge=1)  # of a job: ranks that train together
    cpus: float = Field(1.0, gt=0)
    gpus: float = Field(0.0, ge=0)
    memory_gb: float | None = Field(None, gt=0)
    teraflops: float | None = Field(None, gt=0)  # of matrix products
    bf16: bool = True


class Azure(Place):
    """An Azure OpenAI resource. The credentials themselves are never in the file: `…_env` name the variables that hold them."""

    kind: Literal["azure"]
    location: str  # "Sweden Central"
    endpoint: str
    api_version: str  # a date as "2024-10-21", or "v1" for the undated paths
    credential: Literal["key", "entra"] = "key"
    key_env: str = "AZURE_OPENAI_API_KEY"
    token_env: str | None = None  # with "entra": a variable that holds a token; without it azure-identity finds one
    training: Training = "standard"
    data_residency: bool | None = None  # None: as the training type has it
    subscription: str | None = None  # these three are for the management plane, which deploys
    resource_group: str | None = None
    resource: str | None = None
    management_endpoint: str = "https://management.azure.com"
    management_token_env: str | None = None  # a variable that holds a token for it; without it azure-identity finds one
    deployment: Training = "developer"  # how a study deploys what it tuned, for as long as it asks
    capacity: int = Field(50, ge=1)  # of a deployment, in thousands of tokens a minute


class OpenAi(Place):
    """An OpenAI account."""

    kind: Literal["openai"]
    key_env: str = "OPENAI_API_KEY"
    base_url: str = "https://api.openai.com/v1"
    data_residency: bool = False


Region = Annotated[Machine | Ray | Azure | OpenAi, Field(discriminator="kind")]


class Regions(Wire):
    """`regions.toml`: a table `[regions.NAME]` each."""

    regions: dict[str, Region]

    def with_own(self, own: "Regions") -> "Regions":
        return Regions(regions={**self.regions, **own.regions})

    def find(self, name: str, catalog: Catalog) -> tuple[str, Region]:
        """Its name and the region: by its name here, or by the Azure location of the only one there.

        Raises RegionNotConfigured with what to write where, for a place that the catalogue knows; with the nearest name otherwise.
        """
        for own, region in self.regions.items():
            if plain(own) == plain(name):
                return own, region
        there = [(own, r) for own, r in self.regions.items() if isinstance(r, Azure) and plain(r.location) == plain(name)]
        if len(there) == 1:
            return there[0]
        if there:
            raise RegionNotConfigured(
                f"Several regions are in {name}: {', '.join(own for own, _ in there)}.", hint="Name one of them."
            )
        raise self._unknown(name, catalog)

    def _unknown(self, name: str, catalog: Catalog) -> RegionNotConfigured:
        places = {plain(p): (p, m.provider) for m in catalog.models for p in m.fine_tune_regions}
        if plain(name) in places:
            place, provider = places[plain(name)]
            return RegionNotConfigured(
                f"The region {place} is not configured here.", hint=f"Write into regions.toml in the settings folder:\n{example(place, provider)}"
            )
        near = difflib.get_close_matches(plain(name), [*map(plain, self.regions), *places], n=1)
        names = {**{plain(own): own for own in self.regions}, **{p: shown for p, (shown, _) in places.items()}}
        return RegionNotConfigured(
            f"There is no region {name!r}.",
            hint=(f"Did you mean {names[near[0]]!r}? " if near else "") + f"Configured: {', '.join(self.regions)}. docs/catalogue.md shows how to add one.",
        )


def example(place: str, provider: str) -> str:
    """The lines that configure `place`."""
    if provider == "openai":
        return '[regions.openai]\nkind = "openai"\nkey_env = "OPENAI_API_KEY"'
    location, training = ("Sweden Central", "global") if place == "Global" else (place, "standard")
    return (
        f'[regions.{plain(place)}]\nkind = "azure"\nlocation = "{location}"\nendpoint = "https://RESOURCE.openai.azure.com"\n'
        f'api_version = "2024-10-21"\nkey_env = "AZURE_OPENAI_API_KEY"\ntraining = "{training}"'
    )


def keeps_data(region: Region) -> bool:
    """Whether what is sent there stays there: Azure's global and developer training promise nothing."""
    if isinstance(region, Azure) and region.data_residency is None:
        return region.training == "standard"
    return bool(region.data_residency)


def missing_credential(region: Region, environment: Mapping[str, str] = os.environ) -> str | None:
    """The environment variable that a remote region needs and that is not set."""
    match region:
        case Azure(credential="key", key_env=name) | Azure(credential="entra", token_env=str(name)) | OpenAi(key_env=name):
            return None if environment.get(name) else name
        case _:
            return None


def load_regions(extra: Path | None = None) -> Regions:
    """`local`, with the user's file on top. Raises BadStudy where that is malformed."""
    text = files("feinschliff.catalog").joinpath("regions.toml").read_text(encoding="utf-8")
    built_in = Regions.model_validate(tomllib.loads(text))
    if extra is None:
        return built_in
    try:
        return built_in.with_own(Regions.model_validate(tomllib.loads(extra.read_text(encoding="utf-8"))))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise BadStudy(f"{extra} is not a list of regions: {error}", hint="docs/catalogue.md shows the form.") from error

"""A job at a provider, as a place where our training runs: a process of this machine follows it and writes its events (ADR 18).

Nothing here loads a provider's client: `providers.remote.program` does, in a process of its own.
"""
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from feinschliff.catalog.prices import Price
from feinschliff.catalog.regions import Azure, OpenAi, missing_credential
from feinschliff.compute import process
from feinschliff.core.chat import Wire
from feinschliff.core.errors import MissingExtra, RegionNotConfigured

PROGRAM = "feinschliff.providers.remote.program"
Verb = Literal["follow", "cancel", "pause"]


class Standing(Wire):
    """What the program is told. `job` is the service's own id, so that two jobs of the same data and settings are two there as well."""

    verb: Verb
    folder: Path  # of the run, with its spec.json
    job: str
    region: str
    place: Annotated[Azure | OpenAi, Field(discriminator="kind")]
    model: str  # as the provider names it
    suffix: str | None
    price: Price | None
    ledger: Path


def answer_file(folder: Path, verb: Verb) -> Path:
    """In a run's folder: what came of "cancel" or "pause". One each, for a pause may still be told by a process that a killed server has left."""
    return folder / f"told-{verb}.json"


class Answer(Wire):
    """How the job stands there after it was told something; `state` None where there is no job. `refused`: why it was not done."""

    state: str | None
    trained_tokens: int = 0
    model: str | None = None
    refused: str = ""


class AtProvider:
    """Satisfies core.ports.Compute, for the training program alone. The process may be killed at any moment, and started again."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing

    def start(self, name: str, module: str, arguments: Sequence[str], log: Path) -> "subprocess.Popen[str]":
        return process.start(PROGRAM, [self._standing.model_dump_json()], log)


def check_ready(region: str, place: Azure | OpenAi) -> None:
    """Before a job is taken. Raises RegionNotConfigured where the region's credential is not in the environment, MissingExtra."""
    if (variable := missing_credential(place)) is not None:
        raise no_credential(region, variable)
    if find_spec("openai") is None:
        raise MissingExtra("openai", extra="openai", feature=f"The region {region}")


def no_credential(region: str, variable: str) -> RegionNotConfigured:
    return RegionNotConfigured(
        f"The credential of the region {region} is not there: {variable} is not set.", hint=f"Set it, for example: export {variable}=…"
    )

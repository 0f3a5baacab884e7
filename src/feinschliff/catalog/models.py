"""The model list as types. A user's own file of the same form adds models or replaces those with the same id and version."""
import difflib
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from feinschliff.catalog.facts import Architecture, Lifecycle, RequestTokens
from feinschliff.core.chat import Wire
from feinschliff.core.errors import BadStudy, ModelUnavailable

FAMILIES = ("small", "azure_openai", "phi", "llama", "azure_open", "openai", "embedding")  # files, in the order of the list
HERE = "local"  # the region that is there without any settings: this machine

Provider = Literal["local", "azure", "openai"]


class GgufPackage(Wire):
    """A Python package that carries one GGUF file."""

    kind: Literal["gguf_package"]
    package: str
    version: str
    module: str
    file: str
    sha256: str


class FolderPackage(Wire):
    """A Python package that carries a model folder."""

    kind: Literal["folder_package"]
    package: str
    version: str
    module: str
    folder: str


class Hub(Wire):
    """A repository on a model hub."""

    kind: Literal["hub"]
    repository: str


Source = Annotated[GgufPackage | FolderPackage | Hub, Field(discriminator="kind")]


class CatalogModel(Wire):
    """One version of one model at one provider. `source` names where the facts of the row were read, and when."""

    id: str
    version: str | None = None
    aliases: tuple[str, ...] = ()
    family: str = ""
    kind: Literal["chat", "completion", "embedding"]
    provider: Provider = "local"
    fine_tune_regions: tuple[str, ...] = ()  # as the provider names them
    tuning_methods: tuple[Literal["sft", "dpo", "rft"], ...] = ("sft",)  # "rft" alone: reinforcement only, no job of ours
    max_request_tokens: RequestTokens = RequestTokens()
    example_context_tokens: int | None = None  # the longest training example
    training_data_until: str | None = Field(None, pattern=r"^\d{4}-\d{2}$")  # year and month
    lifecycle: Lifecycle = Lifecycle()
    licence: str
    about: str
    source: str
    sources: tuple[Source, ...] = ()  # of weights, tried in this order; none: only its provider has them
    parameters: int | None = None
    architecture: Architecture | None = None
    chat_template: str | None = None
    stop_tokens: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str | None]:
        return self.id, self.version

    @property
    def names(self) -> tuple[str, ...]:
        """All that it answers to; `id-version` is how fine-tuning jobs name hosted models."""
        return (self.id, *((f"{self.id}-{self.version}", f"{self.id}:{self.version}") if self.version else ()), *self.aliases)


class Catalog(Wire):
    models: tuple[CatalogModel, ...]

    def find(self, name: str, provider: Provider | None = None) -> CatalogModel:
        """The model called `name`: by its id, its id and version, or an alias, in any letter case.

        An id comes before an alias, and of several versions the last in the list is meant.
        Raises ModelUnavailable naming the nearest name and those with weights.
        """
        models = [m for m in self.models if provider in (None, m.provider)]
        wanted = name.lower()
        by_id = [m for m in models if m.id.lower() == wanted]
        found = by_id or [m for m in models if wanted in (n.lower() for n in m.names)]
        if found:
            return found[-1]
        near = difflib.get_close_matches(name, [n for m in models for n in m.names], n=1)
        weights = ", ".join(m.id for m in models if m.sources)
        raise ModelUnavailable(
            f"There is no model {name!r} in the catalogue, and no folder of that name.",
            hint=(f"Did you mean {near[0]!r}? " if near else "")
            + f"With weights: {weights or 'none'}; or name a model folder. All models: feinschliff catalog models",
        )

    def with_own(self, own: "Catalog") -> "Catalog":
        """This list with `own` on top: same id and version replace, others are added."""
        return Catalog(models=tuple({m.key: m for m in (*self.models, *own.models)}.values()))


def load_catalog(extra: Path | None = None) -> Catalog:
    """The built-in list, with `extra` (a TOML file of the same form) on top. Raises BadStudy where that is malformed."""
    folder = files("feinschliff.catalog").joinpath("families")
    built_in = Catalog(models=())
    for family in FAMILIES:
        text = folder.joinpath(f"{family}.toml").read_text(encoding="utf-8")
        built_in = built_in.with_own(Catalog.model_validate(tomllib.loads(text)))
    return built_in if extra is None else built_in.with_own(read_own(extra))


def read_own(file: Path) -> Catalog:
    """A user's file. Raises BadStudy where it cannot be read or is malformed."""
    try:
        return Catalog.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise BadStudy(f"{file} is not a model list: {error}", hint="docs/catalogue.md shows the form.") from error

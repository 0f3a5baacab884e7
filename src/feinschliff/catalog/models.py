"""The model list as types. A user's own file of the same form adds models or replaces those with the same id."""
import difflib
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from feinschliff.core.chat import Wire
from feinschliff.core.errors import BadStudy, ModelUnavailable


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
    id: str
    kind: Literal["chat", "embedding"]
    licence: str
    about: str
    source: str  # where these facts were read, and when
    sources: tuple[Source, ...]


class Catalog(Wire):
    models: tuple[CatalogModel, ...]

    def find(self, model_id: str) -> CatalogModel:
        """Raises ModelUnavailable naming the nearest id and all of them."""
        by_id = {m.id: m for m in self.models}
        if model_id in by_id:
            return by_id[model_id]
        near = difflib.get_close_matches(model_id, by_id, n=1)
        raise ModelUnavailable(
            f"There is no model {model_id!r} in the catalogue, and no folder of that name.",
            hint=(f"Did you mean {near[0]!r}? " if near else "") + f"Known: {', '.join(by_id)}; or name a model folder.",
        )


def load_catalog(extra: Path | None = None) -> Catalog:
    """The built-in list, with `extra` (a TOML file of the same form) on top. Raises BadStudy where that is malformed."""
    built_in = Catalog.model_validate(tomllib.loads(files("feinschliff.catalog").joinpath("models.toml").read_text(encoding="utf-8")))
    if extra is None:
        return built_in
    try:
        added = Catalog.model_validate(tomllib.loads(extra.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise BadStudy(f"{extra} is not a model list: {error}", hint="See catalog/models.toml for the form.") from error
    return Catalog(models=tuple({m.id: m for m in (*built_in.models, *added.models)}.values()))

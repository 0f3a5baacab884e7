"""The base models of this machine: folders that the operator offers by name, and the catalogue's models with weights."""
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from feinschliff.catalog.folder import describe
from feinschliff.catalog.models import Catalog, CatalogModel
from feinschliff.catalog.query import tunable
from feinschliff.core.errors import ModelUnavailable
from feinschliff.core.service import ModelName
from feinschliff.providers.weights import model_folder


@dataclass(frozen=True, slots=True)
class Offered:
    """Base models by name. Folders come before the catalogue."""

    folders: Mapping[str, Path]
    catalog: Catalog

    def names(self) -> tuple[ModelName, ...]:
        """Everything that can be tuned here, in a stable order."""
        listed = [m.id for m in self.catalog.models if m.sources and m.kind == "chat" and tunable(m)]
        return tuple(ModelName(name) for name in dict.fromkeys((*self.folders, *listed)))

    def find(self, name: str) -> ModelName:
        """The model's own name, for any of its aliases. Raises ModelUnavailable with the list of what there is."""
        if name in self.folders:
            return ModelName(name)
        there = self.names()
        try:
            found = ModelName(self.catalog.find(name).id)
        except ModelUnavailable:
            found = ModelName("")
        if found not in there:
            raise ModelUnavailable(f"The model '{name}' does not exist here.", hint=f"Models: {', '.join(there) or 'none'}.")
        return found

    def described(self, name: ModelName) -> CatalogModel:
        """What is known of a model on offer: the catalogue's entry, or what a folder says of itself."""
        if name in self.folders:
            return describe(name, self.folders[name])
        return self.catalog.find(name)

    def folder(self, name: ModelName) -> Path:
        """Where its weights are; brought first if need be, which may take minutes. Raises ModelUnavailable."""
        if name in self.folders:
            return self.folders[name]
        return model_folder(name, self.catalog)

    def embedders(self) -> tuple[ModelName, ...]:
        """The catalogue's embedding models with weights."""
        return tuple(ModelName(m.id) for m in self.catalog.models if m.sources and m.kind == "embedding")

    def all(self) -> tuple[ModelName, ...]:
        """What can be tuned first, then what embeds."""
        return (*self.names(), *self.embedders())

    def embedder(self, name: str) -> Path:
        """Where an embedding model's weights are. Raises ModelUnavailable with the list of what there is."""
        if name not in self.embedders():
            raise ModelUnavailable(
                f"There is no embedding model '{name}' here.", hint=f"Embedding models: {', '.join(self.embedders()) or 'none'}."
            )
        return model_folder(name, self.catalog)

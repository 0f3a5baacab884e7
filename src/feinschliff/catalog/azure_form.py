"""A model as Azure's interfaces show it: the management plane's (Microsoft.CognitiveServices, Models - List, 2024-10-01) and the
data plane's (`GET /openai/models`).

The management plane's words are not the documents' (learn.microsoft.com, lifecycle of models, of 2026-10-05): what retires is
"Deprecating" there, and what has retired is "Deprecated".
"""
from datetime import UTC, date, datetime, time
from typing import Literal

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from feinschliff.catalog.facts import Stage
from feinschliff.catalog.models import CatalogModel
from feinschliff.catalog.query import tunable
from feinschliff.core.chat import Wire

LifecycleStatus = Literal["Preview", "GenerallyAvailable", "Deprecating", "Deprecated"]
STATUS: dict[Stage, LifecycleStatus] = {
    "preview": "Preview", "available": "GenerallyAvailable", "deprecating": "Deprecating", "retired": "Deprecated",
}  # fmt: skip


class _Camel(Wire):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


class Deprecation(_Camel):
    """ISO 8601 times, midnight UTC."""

    fine_tune: str | None = None
    inference: str | None = None


class ModelReference(_Camel):
    format: Literal["OpenAI"] = "OpenAI"
    name: str
    version: str = "1"


class Capacity(_Camel):
    default: int
    maximum: int


class ModelSku(_Camel):
    """A way in which a model can be deployed."""

    name: str
    capacity: Capacity


class ManagedModel(_Camel):
    """The `model` of an entry. Capabilities are texts there, and only those that a model has are listed."""

    format: Literal["OpenAI"] = "OpenAI"
    name: str
    version: str
    lifecycle_status: LifecycleStatus
    deprecation: Deprecation
    capabilities: dict[str, str]
    base_model: ModelReference | None = None  # of a tuned one
    skus: tuple[ModelSku, ...] | None = None  # None: not known
    max_capacity: int | None = None


class ManagedEntry(_Camel):
    """One of the list's `value`. Serialise with `by_alias=True, exclude_none=True`."""

    kind: Literal["OpenAI"] = "OpenAI"
    sku_name: str = "S0"
    model: ManagedModel


class DataPlaneModel(Wire):
    """One of `data` of `GET /openai/models`; times are seconds since 1970."""

    id: str
    object: Literal["model"] = "model"
    status: Literal["succeeded"] = "succeeded"
    lifecycle_status: Literal["preview", "generally-available"]
    deprecation: dict[Literal["fine_tune", "inference"], int]
    capabilities: dict[Literal["fine_tune", "inference", "completion", "chat_completion", "embeddings"], bool]


def managed(model: CatalogModel, today: date) -> ManagedEntry:
    life, limit = model.lifecycle, model.max_request_tokens
    yes = {
        "fineTune": tunable(model) and life.can_be_tuned(today),
        "inference": life.stage(today) != "retired",
        "chatCompletion": model.kind == "chat",
        "completion": model.kind == "completion",
        "embeddings": model.kind == "embedding",
    }
    sizes = {"maxContextToken": limit.input, "maxOutputToken": limit.output}
    return ManagedEntry(
        model=ManagedModel(
            name=model.id, version=model.version or "1", lifecycle_status=STATUS[life.stage(today)],
            deprecation=Deprecation(fine_tune=_iso(life.fine_tuning_until), inference=_iso(life.inference_until)),
            capabilities={k: "true" for k, v in yes.items() if v} | {k: str(v) for k, v in sizes.items() if v is not None},
        )
    )  # fmt: skip


def data_plane(model: CatalogModel, today: date) -> DataPlaneModel:
    """Fine-tuning jobs name a hosted model by id and version, as here."""
    life = model.lifecycle
    ends: dict[Literal["fine_tune", "inference"], int] = {}
    if life.fine_tuning_until is not None:
        ends["fine_tune"] = int(_midnight(life.fine_tuning_until).timestamp())
    if life.inference_until is not None:
        ends["inference"] = int(_midnight(life.inference_until).timestamp())
    return DataPlaneModel(
        id=f"{model.id}-{model.version}" if model.version and not model.id.endswith(model.version) else model.id,
        lifecycle_status="preview" if life.stage(today) == "preview" else "generally-available", deprecation=ends,
        capabilities={
            "fine_tune": tunable(model) and life.can_be_tuned(today), "inference": life.stage(today) != "retired",
            "completion": model.kind == "completion", "chat_completion": model.kind == "chat", "embeddings": model.kind == "embedding",
        },
    )  # fmt: skip


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def _iso(day: date | None) -> str | None:
    return None if day is None else _midnight(day).strftime("%Y-%m-%dT%H:%M:%SZ")

"""Which models there are for a purpose, and a model as `catalog models --json` and the service show it."""
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal, assert_never

from feinschliff.catalog.facts import RequestTokens, Stage
from feinschliff.catalog.fit import least_bytes
from feinschliff.catalog.models import HERE, Catalog, CatalogModel, Provider, Source
from feinschliff.core.chat import Wire
from feinschliff.core.jobs import Full, Lora

EXAMPLE = 1024  # tokens, where a list speaks of memory
Task = Literal["fine-tune", "chat", "completion", "embedding"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list is narrowed to; None and False narrow nothing."""

    region: str | None = None
    family: str | None = None
    task: Task | None = None
    current: bool = False  # nothing that its provider no longer tunes, unless there are weights

    @property
    def anywhere(self) -> "Wanted":
        return replace(self, region=None)


def matching(catalog: Catalog, wanted: Wanted, today: date) -> tuple[CatalogModel, ...]:
    """In the catalogue's order."""
    return tuple(
        m
        for m in catalog.models
        if (wanted.region is None or tuned_in(m, wanted.region))
        and (wanted.family is None or plain(wanted.family) == plain(m.family))
        and (wanted.task is None or _does(m, wanted.task))
        and (not wanted.current or bool(m.sources) or m.lifecycle.can_be_tuned(today))
    )


def tuned_in(model: CatalogModel, place: str) -> bool:
    """Whether `place`, a provider's region by its display or its short name ("East US 2", "eastus2"), tunes the model.

    This machine tunes whatever has weights.
    """
    if plain(place) == HERE:
        return tunable(model) and bool(model.sources)
    return plain(place) in (plain(r) for r in model.fine_tune_regions)


def places(catalog: Catalog) -> dict[str, str]:
    """All regions that some model is tuned in: plain name → as its provider writes it."""
    return {plain(place): place for model in catalog.models for place in model.fine_tune_regions}


def tunable(model: CatalogModel) -> bool:
    """By supervised fine-tuning, the method of this platform's jobs."""
    return "sft" in model.tuning_methods


def plain(name: str) -> str:
    """Letters and digits alone, so that display names, short names and spellings are one."""
    return "".join(c for c in name.lower() if c.isalnum())


def _does(model: CatalogModel, task: Task) -> bool:
    match task:
        case "fine-tune":
            return tunable(model)
        case "chat" | "completion" | "embedding":
            return model.kind == task
        case _:
            assert_never(task)


class LifecycleView(Wire):
    stage: Stage  # today
    listed_as: Stage
    fine_tuning_until: date | None
    inference_until: date | None
    replacement: str | None
    warnings: tuple[str, ...]
    source: str


class MemoryView(Wire):
    """Bytes of memory at least, for examples of up to `tokens` tokens in float32, layers recomputed."""

    tokens: int
    lora: int
    full: int


class ModelView(Wire):
    """One row for programs; the keys are a promise. What is not known is null."""

    id: str
    version: str | None
    aliases: tuple[str, ...]
    family: str
    kind: Literal["chat", "completion", "embedding"]
    provider: Provider
    fine_tune_regions: tuple[str, ...]
    tuning_methods: tuple[str, ...]
    open_weights: bool  # then it is also tuned on machines of one's own
    max_request_tokens: RequestTokens
    example_context_tokens: int | None
    training_data_until: str | None
    lifecycle: LifecycleView
    licence: str
    weights: tuple[Source, ...]
    parameters: int | None
    memory: MemoryView | None
    chat_template: str | None
    stop_tokens: tuple[str, ...]
    about: str
    source: str


def view(model: CatalogModel, today: date) -> ModelView:
    life = model.lifecycle
    copied: Mapping[str, object] = model.model_dump(
        include=set(ModelView.model_fields) - {"lifecycle", "open_weights", "weights", "max_request_tokens", "memory"}
    )
    return ModelView.model_validate(
        {
            **copied,
            "open_weights": bool(model.sources),
            "weights": model.sources,
            "max_request_tokens": model.max_request_tokens,
            "memory": _memory(model),
            "lifecycle": LifecycleView(
                stage=life.stage(today), listed_as=life.listed_as, fine_tuning_until=life.fine_tuning_until,
                inference_until=life.inference_until, replacement=life.replacement, warnings=life.warnings(today), source=life.source,
            ),
        }
    )  # fmt: skip


def _memory(model: CatalogModel) -> MemoryView | None:
    lora, full = (least_bytes(model, method, EXAMPLE) for method in (Lora(), Full()))
    return None if lora is None or full is None or not tunable(model) else MemoryView(tokens=EXAMPLE, lora=lora, full=full)

"""/v1/models."""
from typing import Literal

from fastapi import APIRouter

from feinschliff.api.access import Reader, ServiceOf, Writer
from feinschliff.api.wire import Shown
from feinschliff.app import models as use

router = APIRouter(tags=["models"])


class ModelOut(Shown):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str

    @classmethod
    def of(cls, model: use.ListedModel) -> "ModelOut":
        return cls(id=model.name, created=model.created_at, owned_by=model.owner)


class ModelList(Shown):
    object: Literal["list"] = "list"
    data: list[ModelOut]


class ModelDeleted(Shown):
    id: str
    object: Literal["model"] = "model"
    deleted: bool


@router.get("/models")
def list_models(service: ServiceOf, caller: Reader) -> ModelList:
    return ModelList(data=[ModelOut.of(m) for m in use.list_models(service, caller)])


@router.get("/models/{model}")
def retrieve_model(model: str, service: ServiceOf, caller: Reader) -> ModelOut:
    return ModelOut.of(use.get_model(service, caller, model))


@router.delete("/models/{model}")
def delete_model(model: str, service: ServiceOf, caller: Writer) -> ModelDeleted:
    use.delete_model(service, caller, model)
    return ModelDeleted(id=model, deleted=True)

"""What request and response bodies share."""
from typing import Annotated, Generic, Literal, Protocol, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict, JsonValue
from pydantic.config import JsonDict

from feinschliff.app.files import check_life
from feinschliff.core.service import Order
from feinschliff.core.service_errors import RequestError
from feinschliff.store.paging import Cursor


class _Named(Protocol):
    @property
    def id(self) -> str: ...


Item = TypeVar("Item")
Named = TypeVar("Named", bound=_Named)


class Body(BaseModel):
    """A request body: unknown fields are refused by name, so that a misspelt one does not pass silently."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Shown(BaseModel):
    """A response body. Fields have no defaults: what is sent is always said."""

    model_config = ConfigDict(frozen=True)


def _nulls_left_out(schema: JsonDict) -> None:
    properties, required = schema.get("properties"), schema.get("required")
    if isinstance(properties, dict) and isinstance(required, list):
        schema["required"] = [name for name in required if {"type": "null"} not in _kinds(properties.get(str(name)))]


def _kinds(property_schema: JsonValue) -> list[JsonValue]:
    found = property_schema.get("anyOf") if isinstance(property_schema, dict) else None
    return found if isinstance(found, list) else []


class Sparse(Shown):
    """A response body whose nulls are left out (`response_model_exclude_none`); its schema says which fields those may be."""

    model_config = ConfigDict(json_schema_extra=_nulls_left_out)


class Listing(Shown, Generic[Item]):
    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool


class ListingWithEnds(Listing[Item], Generic[Item]):
    first_id: str | None
    last_id: str | None


def with_ends(data: list[Named], *, has_more: bool, nobody: str | None = None) -> "ListingWithEnds[Named]":  # quoted: pydantic would make a schema of Named
    """A page with the ids of its first and last element; `nobody` stands for both where there is none."""
    first, last = (data[0].id, data[-1].id) if data else (nobody, nobody)
    return ListingWithEnds(data=data, has_more=has_more, first_id=first, last_id=last)


class ExpiresAfter(Body):
    anchor: Literal["created_at"]
    seconds: int

    def life_s(self) -> int:
        """Raises RequestError for one that is too short or too long."""
        check_life(self.seconds)
        return self.seconds


After = Annotated[str | None, Query(description="The id of the last element of the page before.")]


def cursor(limit: int, after: str | None, order: str, *, most: int = 100) -> Cursor:
    """Raises RequestError where a parameter is out of range."""
    if not 1 <= limit <= most:
        raise RequestError(f"limit is {limit}; it must be between 1 and {most}.", param="limit")
    orders: dict[str, Order] = {"asc": "asc", "ascending": "asc", "desc": "desc", "descending": "desc"}
    if order not in orders:
        raise RequestError(f"order is {order!r}; it must be 'asc' or 'desc'.", param="order")
    return Cursor(limit, after, orders[order])

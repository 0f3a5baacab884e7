"""What Azure's dated paths have in common: `?api-version=…`, and `Location` for what was made."""
import re
from datetime import date
from typing import Annotated, Protocol, TypeVar

from fastapi import Depends, Query, Request, Response

from feinschliff.core.service_errors import RequestError

FORM = re.compile(r"(\d{4}-\d{2}-\d{2})(-preview)?")
GIVEN = Query(alias="api-version", description="A date, with or without -preview. All are answered alike.")


def check_version(version: Annotated[str | None, GIVEN] = None) -> None:
    """Every date is taken, since newer clients send newer ones. Raises RequestError in Azure's words."""
    if version is None:
        raise RequestError(
            "The api-version query parameter (?api-version=) is required for all requests.", param="api-version",
            code="MissingApiVersionParameter", hint="For example ?api-version=2024-10-21.",
        )  # fmt: skip
    form = FORM.fullmatch(version)
    if form is None or not _is_date(form[1]):
        raise RequestError(
            f"Unsupported api-version {version!r}. The supported api-versions are dates, as 2024-10-21 or 2025-04-01-preview.",
            param="api-version", code="UnsupportedApiVersionValue",
        )  # fmt: skip


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


VERSIONED = Depends(check_version)
Made = TypeVar("Made", bound="_Named")


class _Named(Protocol):
    @property
    def id(self) -> str: ...


def made(thing: Made, request: Request, response: Response, *, instead_of: str = "") -> Made:
    """What was created, with its address in the answer's `Location`: that of the request, less `instead_of`, and its id."""
    response.headers["location"] = str(request.url.replace(path=f"{request.url.path.removesuffix(instead_of)}/{thing.id}"))
    return thing

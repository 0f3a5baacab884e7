"""Who may do this? The dependencies that every endpoint names."""
from typing import Annotated, cast

from fastapi import Depends, Request

from feinschliff.api.rates import Rates
from feinschliff.app.keys import caller_of
from feinschliff.app.service import Service
from feinschliff.core.service import Caller, Scope
from feinschliff.core.service_errors import Forbidden, Unauthorized


def service_of(request: Request) -> Service:
    return cast(Service, request.app.state.service)


class Needs:
    """A dependency: the caller, whose key must include `scope`. Raises Unauthorized, Forbidden, RateLimited."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __call__(self, request: Request) -> Caller:
        request_id = str(request.state.request_id)
        caller = caller_of(service_of(request), _key_in(request), request_id)
        request.state.key_id, request.state.project = caller.key, caller.project
        cast(Rates, request.app.state.rates).take(caller.key)
        if not caller.scope.includes(self._scope):
            raise Forbidden(
                f"This needs a key with the scope '{self._scope}'; yours has '{caller.scope}'.",
                hint=f"feinschliff keys create --scope {self._scope}",
            )
        return caller


def _key_in(request: Request) -> str:
    """`Authorization: Bearer KEY`, or Azure's `api-key: KEY`."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    if azure := request.headers.get("api-key"):
        return azure
    raise Unauthorized("You didn't provide an API key.", hint="Send it as 'Authorization: Bearer KEY'.")


ServiceOf = Annotated[Service, Depends(service_of)]
Reader = Annotated[Caller, Depends(Needs(Scope.READ))]
Writer = Annotated[Caller, Depends(Needs(Scope.WRITE))]
Admin = Annotated[Caller, Depends(Needs(Scope.ADMIN))]

"""Every error of a request becomes a status and a body that the client's library understands."""
import logging
import math
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from feinschliff.api.azure.errors import azure_body
from feinschliff.core.errors import FeinschliffError, Overloaded
from feinschliff.core.service_errors import (
    NO_ROOM_HINT,
    Forbidden,
    NoRoom,
    NotFound,
    RateLimited,
    RequestError,
    Unauthorized,
    Unavailable,
    is_full,
)

log = logging.getLogger("feinschliff.api")
BUSY_RETRY_S = 2


def install(app: FastAPI) -> None:
    """Register the handlers. What no handler knows is answered by `api.requests`, the outermost layer."""

    @app.exception_handler(FeinschliffError)
    async def _ours(request: Request, error: FeinschliffError) -> JSONResponse:
        return answer(error, request.url.path)

    @app.exception_handler(RequestValidationError)
    async def _malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(_first_problem(error), request.url.path)

    @app.exception_handler(HTTPException)
    async def _routing(request: Request, error: HTTPException) -> JSONResponse:
        message = f"Invalid URL ({request.method} {request.url.path})" if error.status_code in (404, 405) else str(error.detail)
        return _body(error.status_code, message, "invalid_request_error", None, None, error.headers or {}, request.url.path)

    @app.exception_handler(OSError)
    async def _system(request: Request, error: OSError) -> JSONResponse:
        if not is_full(error):
            raise error
        log.warning("disk: %s", error)
        return answer(NoRoom("There is no room left on the disk.", hint=NO_ROOM_HINT), request.url.path)


def answer(error: FeinschliffError, path: str) -> JSONResponse:
    """OpenAI's error body, or Azure's on its paths. The hint follows the message: clients show nothing else."""
    param = error.param if isinstance(error, RequestError) else None
    code = (error.stated_code if isinstance(error, RequestError) else None) or error.code
    message = f"{error.message} {error.hint}".strip()
    return _body(error.status, message, _type_of(error), param, code, _headers(error), path)


def internal(path: str) -> JSONResponse:
    """For what nobody foresaw; the log has the rest."""
    return _body(500, "The server had an error while processing your request.", "server_error", None, "internal_error", {}, path)


def _type_of(error: FeinschliffError) -> str:
    match error:
        case Unauthorized():
            return "authentication_error"
        case Forbidden():
            return "permission_error"
        case RateLimited() | Overloaded():
            return "rate_limit_error"
        case NotFound():
            return "invalid_request_error"
        case _:
            return "server_error" if error.status >= 500 else "invalid_request_error"


def _headers(error: FeinschliffError) -> dict[str, str]:
    match error:
        case RateLimited() | Overloaded():
            return {"retry-after": str(math.ceil(error.retry_after_s)), "retry-after-ms": str(math.ceil(error.retry_after_s * 1000))}
        case Unavailable():
            return {"retry-after": str(BUSY_RETRY_S)}
        case Unauthorized():
            return {"www-authenticate": "Bearer"}
        case _:
            # Clients try conflicts again by themselves; one of ours does not go away by waiting.
            return {"x-should-retry": "false"} if error.status == 409 else {}


def _body(
    status: int, message: str, kind: str, param: str | None, code: str | None, headers: Mapping[str, str], path: str
) -> JSONResponse:
    error = azure_body(path, status, message, param, code) or {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": error}, status_code=status, headers=dict(headers))


def _first_problem(error: RequestValidationError) -> RequestError:
    """All problems in the message, the first one's place as `param`."""
    problems = [(_place(e["loc"]), str(e["msg"])) for e in error.errors()]
    message = " ".join(f"{place}: {text}." if place else f"{text}." for place, text in problems[:5])
    return RequestError(message, param=problems[0][0] or None, code="invalid_value")


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc[1:])  # the first says body, query or path

"""Errors of the service. Each carries its HTTP status, a stable code, and the parameter at fault where there is one."""
import errno

from feinschliff.core.errors import FeinschliffError, ModelUnavailable

NO_ROOM_EXIT = errno.ENOSPC  # of a program of ours that found the disk full
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class RequestError(FeinschliffError):
    """A request that cannot be carried out as put. `param` names the field at fault; `code` overrides the class's own."""

    code = "invalid_request"

    def __init__(self, message: str, *, hint: str = "", param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.param = param
        self.stated_code = code


class NotFound(RequestError):
    """There is no such thing, or it belongs to another project."""

    status = 404
    code = "not_found"


class Unauthorized(RequestError):
    """No key, or one that is not known."""

    status = 401
    code = "invalid_api_key"


class Forbidden(RequestError):
    """The key is known, and may not do this."""

    status = 403
    code = "insufficient_permissions"


class Conflict(RequestError):
    """The thing is in a state that excludes this."""

    status = 409
    code = "conflict"


class TooLarge(RequestError):
    """More bytes than allowed."""

    status = 413
    code = "too_large"


class RateLimited(RequestError):
    """Too many requests; `retry_after_s` says when the next one is welcome."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after_s: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class CorruptBlob(FeinschliffError):
    """Stored bytes are not those that were stored."""

    status = 500
    code = "corrupt_file"


class Unavailable(FeinschliffError):
    """The service cannot do it now, and can later: nothing is wrong with what was asked."""

    status = 503
    code = "unavailable"


class NoRoom(Unavailable):
    """The disk is full."""

    status = 507
    code = "insufficient_storage"


NO_ROOM_HINT = "Insufficient storage: delete files, models or jobs' data that are not needed, or ask the operator for a larger disk; then try again."


def is_full(error: BaseException | None) -> bool:
    """Whether the disk, a quota or a limit on the size of files is behind this error."""
    while error is not None:
        if isinstance(error, NoRoom) or (isinstance(error, OSError) and error.errno in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def no_model(error: ModelUnavailable) -> NotFound:
    """For a request that names its model as something to find."""
    return NotFound(error.message, hint=error.hint, param="model", code="model_not_found")

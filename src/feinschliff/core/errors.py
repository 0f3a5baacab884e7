"""Errors a user can act on. One tree; each says where it happened and what to do."""
from typing import ClassVar


class FeinschliffError(Exception):
    """Base of every expected error.

    `message` says what is wrong and where, `hint` what to do about it. The CLI prints both without a
    traceback and leaves with `exit_code` (2: the request cannot be carried out as put; 1: it was carried out and the answer is no).
    The service answers with `status` and `code`.
    """

    exit_code: ClassVar[int] = 2
    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad_request"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BadStudy(FeinschliffError):
    """The study file cannot be read or contradicts itself."""

    code = "bad_study"


class BadData(FeinschliffError):
    """A data file cannot be read, or holds examples that cannot be used."""

    code = "bad_data"


class ContextExceeded(BadData):
    """Prompt and answer do not fit into the model's context."""

    code = "context_length_exceeded"


class Overloaded(FeinschliffError):
    """Too much is waiting already, or too much memory is in use; `retry_after_s` says when to come again."""

    status = 429
    code = "overloaded"

    def __init__(self, message: str, *, hint: str = "Try again later.", retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class CheckFailed(FeinschliffError):
    """A check ran to its end and the answer is no."""

    exit_code = 1
    status = 422
    code = "check_failed"


class ModelUnavailable(FeinschliffError):
    """A model's weights, tokenizer or template cannot be had from any source."""

    status = 404
    code = "model_unavailable"


class MissingExtra(FeinschliffError):
    """A feature needs an optional dependency that is not installed."""

    status = 501
    code = "missing_extra"

    def __init__(self, package: str, *, extra: str, feature: str) -> None:
        super().__init__(
            f"{feature} needs the package '{package}', which is not installed.",
            hint=f"pip install 'feinschliff[{extra}]'",
        )


class FolderInUse(FeinschliffError):
    """An output folder belongs to something else, or another process is working in it."""

    status = 409
    code = "folder_in_use"


class ProgramFailed(FeinschliffError):
    """A training or serving program ended without an answer."""

    exit_code = 1
    status = 500
    code = "program_failed"


class TrainingFailed(FeinschliffError):
    """Training ran and could not be finished: diverged, out of memory, nothing to learn from."""

    exit_code = 1
    status = 422
    code = "training_failed"


class RegionNotConfigured(FeinschliffError):
    """A region that nobody has configured here."""

    status = 404
    code = "region_not_configured"


class NotOffered(FeinschliffError):
    """A model, or a data set that must stay somewhere, and a region that does not go with it."""

    status = 422
    code = "not_offered"


class DoesNotFit(FeinschliffError):
    """A job that the region's hardware has too little memory for."""

    status = 422
    code = "does_not_fit"


class OverBudget(FeinschliffError):
    """A job that would go beyond a budget or a quota; refused before it starts."""

    status = 402
    code = "over_budget"


class NoPrice(FeinschliffError):
    """A price that nobody has told us."""

    status = 422
    code = "no_price"


class ProviderRefused(FeinschliffError):
    """A remote provider was asked and said no: a wrong key, an unknown model, a file that it does not take."""

    status = 502
    code = "provider_refused"


class ProviderUnreachable(FeinschliffError):
    """A remote provider gave no answer, or was too busy to; whether it did what it was asked is not known."""

    exit_code = 1
    status = 503
    code = "provider_unreachable"

    def __init__(self, message: str, *, hint: str = "Try again later.", retry_after_s: float = 0.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s

"""Why an item could not be graded, in the words of OpenAI's grader endpoint."""
from typing import Literal

from feinschliff.core.errors import FeinschliffError

Kind = Literal[
    "formula_parse_error", "sample_parse_error", "invalid_variable_error", "other_error", "python_grader_server_error",
    "python_grader_runtime_error", "model_grader_server_error", "model_grader_parse_error",
]  # fmt: skip


class NotGraded(FeinschliffError):
    """The grader has no score for this item. Counted as an error of the item; never a zero, and never a crash."""

    status = 422
    code = "not_graded"

    def __init__(self, kind: Kind, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.kind = kind

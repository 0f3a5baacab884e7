"""Azure's error bodies. Inference (`/openai/deployments/…`) and the undated paths (`/openai/v1/…`) have OpenAI's."""
from collections.abc import Mapping

DATED: Mapping[int, str] = {
    401: "unauthorized", 403: "forbidden", 404: "notFound", 405: "notFound", 409: "conflict", 413: "quotaExceeded", 429: "tooManyRequests",
    500: "internalFailure", 503: "serviceUnavailable",
}  # fmt: skip
MANAGED: Mapping[int, str] = {
    401: "InvalidAuthenticationToken", 403: "AuthorizationFailed", 404: "ResourceNotFound", 405: "ResourceNotFound", 409: "Conflict",
    429: "TooManyRequests", 500: "InternalServerError", 503: "ServiceUnavailable",
}  # fmt: skip


def azure_body(path: str, status: int, message: str, param: str | None, code: str | None) -> dict[str, object] | None:
    """The value of `error` where the path is one of Azure's, else None.

    Azure's own codes are few, by status; ours stands inside. A code that begins with a capital is Azure's already.
    """
    own = code if code is not None and code[:1].isupper() else None
    about: dict[str, object] = {"message": message, "target": param, "details": []}
    if path.startswith("/subscriptions/"):
        inside: list[object] = [] if code is None else [{"type": "feinschliff", "info": {"code": code}}]
        return {"code": own or MANAGED.get(status, "InvalidRequestContent"), **about, "additionalInfo": inside}
    if path.startswith("/openai/") and not path.startswith(("/openai/v1/", "/openai/deployments/")):
        said = own or (code if code in ("invalidPayload", "fileImportFailed") else None)
        return {"code": said or DATED.get(status, "invalidPayload"), **about, "innererror": {"code": code or "unknown"}}
    return None

"""/openapi.json as the service answers, and /docs: a page that needs neither a script nor another server."""
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from feinschliff import __version__

METHODS = ("get", "put", "post", "patch", "delete")
FREE = ("/healthz", "/readyz", "/metrics")
TEXT: dict[str, object] = {"type": ["string", "null"]}
OPENAI_ERROR = {"message": {"type": "string"}, "type": {"type": "string"}, "param": TEXT, "code": TEXT}
AZURE_ERROR = {"code": {"type": "string"}, "message": {"type": "string"}}
SECURITY: list[dict[str, list[str]]] = [{"key": []}, {"azure_key": []}]
EXAMPLE = {
    "message": "The model 'gpt-9' does not exist. Models: smollm2-135m-instruct.", "type": "invalid_request_error", "param": "model",
    "code": "model_not_found",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    method: str
    path: str
    summary: str
    description: str


def install(app: FastAPI) -> None:
    """After all routers."""

    @cache
    def document() -> dict[str, Any]:
        return describe(app)

    app.openapi = document  # pyrefly: ignore[method-assign] – FastAPI's own way to replace it

    @app.get("/docs", include_in_schema=False)
    def docs(request: Request) -> HTMLResponse:
        groups: dict[str, list[Operation]] = {}
        for tag, operation in operations(document()):
            groups.setdefault(tag, []).append(operation)
        base = str(request.base_url).rstrip("/")
        return HTMLResponse(_page().render(base=base, groups=groups, version=__version__))


def describe(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with the errors and the keys that are really used."""
    document: dict[str, Any] = get_openapi(title=app.title, version=app.version, routes=app.routes, description=(
        "OpenAI's API under /v1, Azure OpenAI's under /openai, and what neither has: deployments, catalogue, queue, cost, audit."
    ))  # fmt: skip
    parts = document.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Error"] = _error(OPENAI_ERROR) | {"example": {"error": EXAMPLE}}
    schemas["AzureError"] = _error(AZURE_ERROR)
    parts["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer"}, "azure_key": {"type": "apiKey", "in": "header", "name": "api-key"},
    }  # fmt: skip
    for path, methods in document["paths"].items():
        for operation in (methods[m] for m in METHODS if m in methods):
            _correct(path, operation)
    return document


def operations(document: dict[str, Any]) -> Iterator[tuple[str, Operation]]:
    """With the tag of each; what is there twice under Azure's undated prefix is left out."""
    for path, methods in document["paths"].items():
        if not path.startswith("/openai/v1/"):
            for method in (m for m in METHODS if m in methods):
                told = methods[method]
                yield told.get("tags", ["other"])[0], Operation(method.upper(), path, told.get("summary", ""), told.get("description", ""))


def _correct(path: str, operation: dict[str, Any]) -> None:
    operation["responses"].pop("422", None)  # malformed requests are answered with 400
    name = "AzureError" if path.startswith(("/openai/", "/subscriptions/")) and not path.startswith("/openai/v1/") else "Error"
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    operation["responses"]["4XX"] = {"description": "The request cannot be carried out; the message says why and what to do.", "content": content}
    operation["responses"]["5XX"] = {"description": "The service cannot answer now.", "content": content}
    if path not in FREE:
        operation["security"] = SECURITY


def _error(fields: dict[str, dict[str, Any]]) -> dict[str, Any]:
    inner = {"type": "object", "required": list(fields), "properties": fields}
    return {"type": "object", "required": ["error"], "properties": {"error": inner}}


@cache
def _page() -> Any:  # noqa: ANN401  jinja2's templates have no useful type
    environment = Environment(loader=PackageLoader("feinschliff.api"), undefined=StrictUndefined, autoescape=True)
    return environment.get_template("docs.html")

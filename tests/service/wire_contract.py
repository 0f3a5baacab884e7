"""The published contract of the API (../shared/contract/openai.json), as a hook that checks every response."""
import json
import re
from functools import cache
from pathlib import Path

import httpx2
from jsonschema import Draft202012Validator

SPECIFICATION = Path(__file__).resolve().parents[3] / "shared" / "contract" / "openai.json"
WHY_NOT = f"responses are not checked: there is no {SPECIFICATION}"
checked: list[str] = []  # what was checked in this run, for a test that something was


@cache
def _specification():
    return json.loads(SPECIFICATION.read_text(encoding="utf-8"))


@cache
def _routes():
    return [(re.compile(re.sub(r"\{\w+\}", r"[^/]+", path) + "$"), operations) for path, operations in _specification()["paths"].items()]


def check_response(response: httpx2.Response) -> None:
    """Raises AssertionError naming what is wrong. Responses that stream, or are no JSON, are passed over."""
    if not SPECIFICATION.is_file() or "json" not in response.headers.get("content-type", ""):
        return
    response.read()
    method, path = response.request.method.lower(), response.request.url.path.removeprefix("/v1")
    body = response.json()
    schema = {"$ref": "#/components/schemas/ErrorResponse"}
    if response.status_code < 400:
        schema = _schema(method, path, response.status_code)
    problems = [f"{e.json_path}: {e.message}" for e in _validator(json.dumps(schema)).iter_errors(body)]
    assert not problems, f"{method} {path} → {response.status_code}: {problems[:3]}"
    assert response.headers["x-request-id"]
    checked.append(f"{method} {path} {response.status_code}")


def _schema(method, path, status):
    for pattern, operations in _routes():
        if pattern.match(path) and method in operations:
            return operations[method]["responses"][str(status)]["content"]["application/json"]["schema"]
    raise AssertionError(f"{method} {path} is not in the contract")


@cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator({**json.loads(schema), "components": _specification()["components"]})

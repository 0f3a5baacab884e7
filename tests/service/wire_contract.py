"""The published contract of the API (../shared/contract/openai.json), against which every response is held."""
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx2
from jsonschema import Draft202012Validator
from record import RECORD

SPECIFICATION = Path(__file__).resolve().parents[3] / "shared" / "contract" / "openai.json"
WHY_NOT = f"responses are not checked: there is no {SPECIFICATION}"
# Azure's paths whose answers have OpenAI's form; a deployment stands in the path where OpenAI's have `model` in the body.
PREFIXES = re.compile(r"^(?:/openai)?/v1(?=/)|^/openai/deployments/[^/]+(?=/)")
checked: list[str] = []  # what was checked in this run, for a test that something was


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its whole response. `sent` is the request's body where that is JSON, or a form's names."""

    method: str
    path: str
    query: str
    sent: object
    status: int
    content_type: str
    body: bytes
    request_id: str | None

    @property
    def operation(self) -> str | None:
        """As `POST /files/{file_id}`; None where the contract has none."""
        plain = PREFIXES.sub("", self.path)
        found = ((p, m) for p, pattern, methods in _routes() for m in methods if m == self.method.lower() and pattern.match(plain))
        return next((f"{m.upper()} {p}" for p, m in found), None)


@cache
def specification():
    return json.loads(SPECIFICATION.read_text(encoding="utf-8"))


@cache
def _routes():
    return [(path, re.compile(re.sub(r"\{\w+\}", r"[^/]+", path) + "$"), operations) for path, operations in specification()["paths"].items()]


def check_response(response: httpx2.Response) -> None:
    """The hook of the official client in this process. Raises AssertionError naming what is wrong."""
    if not SPECIFICATION.is_file():
        return
    content_type = response.headers.get("content-type", "")
    if "event-stream" not in content_type:
        response.read()
    request = response.request
    exchange = Exchange(
        request.method, request.url.path, request.url.query.decode(), sent(request.headers.get("content-type", ""), request.read()),
        response.status_code, content_type, b"" if "event-stream" in content_type else response.content, response.headers.get("x-request-id"),
    )  # fmt: skip
    assert exchange.operation or exchange.status >= 400, f"{exchange.method} {exchange.path} is not in the contract"
    check(exchange)


def sent(content_type: str, body: bytes) -> object:
    """What was asked with, for the record: JSON as it is, of a form the names of its fields."""
    if "json" in content_type:
        return json.loads(body) if body else None
    return dict.fromkeys(n.decode() for n in re.findall(rb'form-data; name="([^"]+)"', body)) if "form-data" in content_type else None


def check(exchange: Exchange) -> None:
    """Raises AssertionError naming what is wrong. Responses that are no JSON, and paths of our own, are passed over."""
    operation = exchange.operation
    RECORD.note(operation, exchange)
    is_json, streams = "json" in exchange.content_type, "event-stream" in exchange.content_type
    ours = operation is None and (exchange.status < 400 or not exchange.path.startswith("/v1/"))
    if ours or not (is_json or streams):
        return
    schema = {"$ref": "#/components/schemas/ErrorResponse"}
    if operation and exchange.status < 400:
        schema = _schema(operation, exchange.status, "text/event-stream" if streams else "application/json")
    for body in _told(exchange.body) if streams else [json.loads(exchange.body)]:
        problems = [f"{e.json_path}: {e.message[-300:]}" for e in validator(json.dumps(schema)).iter_errors(_without_known_differences(body))]
        assert not problems, f"{operation} → {exchange.status}: {problems[:3]}"
    assert exchange.request_id
    checked.append(f"{operation} {exchange.status}")


def _without_known_differences(body: object) -> object:
    """An echoed prompt's first token has no log-probability. The hosted service writes null, as we do; its schema wants a number."""
    match body:
        case {"object": "text_completion", "choices": list(choices)}:
            for choice in choices:
                match choice["logprobs"]:
                    case {"token_logprobs": [None, *_] as values, "top_logprobs": [None, *_] as tops}:
                        values[0], tops[0] = 0, {}
    return body


def _told(stream: bytes) -> Iterator[object]:
    data = (line.removeprefix(b"data: ") for line in stream.splitlines() if line.startswith(b"data: "))
    return (json.loads(event) for event in data if event != b"[DONE]")


def _schema(operation, status, content_type):
    method, path = operation.split(" ")
    content = specification()["paths"][path][method.lower()]["responses"][str(status)]["content"]
    return content[content_type if content_type in content else "application/json"]["schema"]


@cache
def validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator({**json.loads(schema), "components": specification()["components"]})

"""The outermost layer: every request gets an id, a line in the log, a place in the metrics, and an answer."""
import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

from feinschliff.api.errors import answer, internal
from feinschliff.core.service_errors import TooLarge

log = logging.getLogger("feinschliff.requests")
GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
CLIENT_ID = re.compile(r"[\x20-\x7e]{1,512}")
PREFIX = re.compile(r"(/openai)?/v1(?=/)")
SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60)


class RequestMetrics:
    """Counted by route (the pattern, not the path: ids would make a series each), method and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("route", "method", "status")
        self.total = Counter("feinschliff_requests", "Requests answered", labels, registry=registry)
        self.seconds = Histogram(
            "feinschliff_request_seconds", "Time to the last byte", ("route", "method"), buckets=SECONDS, registry=registry
        )


class Requests:
    """ASGI middleware. Bodies that are no form may have `json_bytes` at most; forms are measured while they are read."""

    def __init__(
        self, app: ASGIApp, *, metrics: RequestMetrics, json_bytes: int, traced: Callable[[Mapping[str, object]], None]
    ) -> None:
        self._app = app
        self._traced = traced
        self._metrics = metrics
        self._json_bytes = json_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = _Seen(scope, send, self._traced)
        bounded = receive if _header(scope, b"content-type").startswith("multipart/") else _bounded(receive, self._json_bytes)
        try:
            await self._app(scope, bounded, seen.send)
        except TooLarge as error:
            await seen.instead(answer(error, scope["path"]), receive)
        except Exception:  # the boundary of a request
            log.exception("unforeseen", extra={"request_id": seen.request_id})
            await seen.instead(internal(scope["path"]), receive)
        finally:
            self._told(scope, seen)

    def _told(self, scope: Scope, seen: "_Seen") -> None:
        seconds = time.monotonic() - seen.began
        route = _route(scope)
        self._metrics.total.labels(route, scope["method"], str(seen.status)).inc()
        self._metrics.seconds.labels(route, scope["method"]).observe(seconds)
        level = logging.DEBUG if route in ("/healthz", "/readyz", "/metrics") else logging.INFO
        fields = {
            "request_id": seen.request_id, "client_request_id": seen.client_request_id, "key_id": scope["state"].get("key_id"),
            "project": scope["state"].get("project"), "method": scope["method"], "route": route, "path": scope["path"],
            "status": seen.status, "duration_ms": round(seconds * 1000, 1), "bytes": seen.n_bytes,
        }  # fmt: skip
        log.log(level, "request", extra={"fields": fields})


class _Seen:
    """One request on its way out."""

    def __init__(self, scope: Scope, send: Send, traced: Callable[[Mapping[str, object]], None]) -> None:
        given = _header(scope, b"x-request-id")
        self.request_id = given if GIVEN_ID.fullmatch(given) else f"req_{secrets.token_hex(16)}"
        scope.setdefault("state", {})["request_id"] = self.request_id
        named = _header(scope, b"x-client-request-id")  # OpenAI's: the client's own name for it, logged and not sent back
        self.client_request_id = named if CLIENT_ID.fullmatch(named) else None
        self._scope = scope
        self._send = send
        self._traced = traced
        self.status = 0
        self.n_bytes = 0  # of the answer's body
        self.began = time.monotonic()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._traced(self._scope["state"])  # now, as the span ends with the answer
            message = {**message, "headers": [*message.get("headers", []), (b"x-request-id", self.request_id.encode())]}
        self.n_bytes += len(message.get("body", b""))
        await self._send(message)

    async def instead(self, response: ASGIApp, receive: Receive) -> None:
        """Answer so, unless an answer has begun: then only breaking off tells the client."""
        if self.status:
            raise ConnectionAbortedError("the answer broke off")
        await response(self._scope, receive, self.send)


def _route(scope: Scope) -> str:
    """The pattern; a router's own lacks the prefix under which it was included."""
    route = str(getattr(scope.get("route"), "path", "none"))
    prefix = PREFIX.match(scope["path"])
    return route if route == "none" or prefix is None or route.startswith(prefix[0]) else prefix[0] + route


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _bounded(receive: Receive, most: int) -> Receive:
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            raise TooLarge(f"The request's body has more than {most:,} bytes.")
        return message

    return counted


class JsonLines(logging.Formatter):
    """A log record as one JSON object a line."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"), "level": record.levelname.lower(), "logger": record.name,
            "message": record.getMessage(), **getattr(record, "fields", {}),
        }  # fmt: skip
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class PlainLines(logging.Formatter):
    """A log record as a line for people: the fields after the message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = {k: v for k, v in getattr(record, "fields", {}).items() if v is not None}
        return " ".join([super().formatMessage(record), *(f"{k}={v}" for k, v in fields.items())])

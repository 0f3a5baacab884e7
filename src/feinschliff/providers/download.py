"""Fetch a file for a client from a server that the operator has allowed: a client must not make us read our own network."""
import urllib.request
from collections.abc import Callable, Collection
from http.client import HTTPException, HTTPMessage
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlsplit

from typing_extensions import override

from feinschliff.core.service_errors import Forbidden, RequestError, TooLarge

PIECE = 1 << 18  # bytes read at a time
SILENT_S = 60  # how long a server may say nothing


class _Stay(urllib.request.HTTPRedirectHandler):
    """Another address might be one that is not allowed; a redirection is an error."""

    @override
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def fetch(url: str, allowed: Collection[str], write: Callable[[bytes], object], *, most_bytes: int) -> None:
    """Hand the bytes at `url` to `write`, piece by piece. `allowed` are names of hosts, with a port where only that one is meant.

    Raises Forbidden, TooLarge, and RequestError where they cannot be had. No message repeats the address: it may hold a token.
    """
    host = _host(url, allowed)
    left = most_bytes
    try:
        with urllib.request.build_opener(_Stay).open(url, timeout=SILENT_S) as answer:
            while piece := answer.read(PIECE):
                left -= len(piece)
                if left < 0:
                    raise TooLarge(f"The file at {host} has more than {most_bytes:,} bytes.", param="content_url")
                write(piece)
            told = answer.headers.get("content-length")
            if told is not None and int(told) != most_bytes - left:
                raise _failed(f"{host} broke off")  # `read` ends without an error then
    except HTTPError as error:
        error.close()
        raise _failed(f"{host} answered {error.code}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise _failed(f"{host} could not be read: {getattr(error, 'reason', None) or type(error).__name__}") from None


def _host(url: str, allowed: Collection[str]) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    else:
        host = host if parts.scheme in ("http", "https") else None
    if host is None:
        raise RequestError("content_url must be an http or https address.", param="content_url", code="invalidPayload")
    if host not in allowed and f"{host}:{port}" not in allowed:
        raise Forbidden(
            f"Files are not imported from {host} here.", param="content_url", code="import_host_not_allowed",
            hint=f"Upload the file, or have the operator start the server with --import-from {host}.",
        )  # fmt: skip
    return host


def _failed(why: str) -> RequestError:
    return RequestError(f"The file could not be imported: {why}.", param="content_url", code="fileImportFailed")

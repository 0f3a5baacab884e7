"""Run the web application in this process until it is told to stop."""
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Callable

import uvicorn

from feinschliff.api.app import create_app
from feinschliff.api.requests import JsonLines, PlainLines
from feinschliff.app.service import Service
from feinschliff.core.errors import FeinschliffError
from feinschliff.core.settings import LogFormat

GRACE_S = 20  # for requests that are under way when the server is told to stop
BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Raises FeinschliffError where the address cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        door = socket.create_server((host, port), family=family, backlog=BACKLOG)
        # Connections inherit it. asyncio sets it only where a socket names its protocol, which these do not; without it
        # the second of two small writes waits 40 ms for the client's delayed acknowledgement of the first.
        door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return door
    except OSError as error:
        raise FeinschliffError(
            f"Cannot listen on {host} port {port}: {error.strerror or error}.", hint="Choose another with --host and --port."
        ) from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run_server(service: Service, door: socket.socket, on_ready: Callable[[str], None]) -> None:
    """Blocks. SIGTERM and Ctrl-C end it gracefully: no new requests, those under way are answered."""
    _log_to_stderr(service.settings.log_format)
    config = uvicorn.Config(
        create_app(service), log_config=None, access_log=False, timeout_graceful_shutdown=GRACE_S, server_header=False
    )
    server = uvicorn.Server(config)
    # uvicorn has its own handlers while it runs. Before, a signal must not be lost; afterwards it repeats the signal, and the
    # default would end the process before the background work has come to its end.
    for told in (signal.SIGTERM, signal.SIGINT):
        signal.signal(told, lambda number, frame: setattr(server, "should_exit", True))
    host, port = door.getsockname()[:2]
    on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    server.run(sockets=[door])


def _log_to_stderr(form: LogFormat) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else PlainLines())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)

"""A relay in front of the server, for clients in other processes: what they send and get is held against the contract as well."""
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from wire_contract import SPECIFICATION, Exchange, check, sent

OF_THE_CONNECTION = {"connection", "transfer-encoding", "keep-alive", "host", "content-length"}


class Relay(ThreadingHTTPServer):
    """Passes everything on, streams piece by piece. `problems` is what the contract objects to; `paths` what was asked."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.target = urlsplit(target).netloc
        self.problems: list[str] = []
        self.paths: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)

    def __enter__(self) -> "Relay":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Passing(BaseHTTPRequestHandler):
    server: Relay

    def log_message(self, *_: object) -> None:
        pass

    def _pass(self) -> None:
        body = self._read()
        behind = http.client.HTTPConnection(self.server.target, timeout=120)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in OF_THE_CONNECTION | {"accept-encoding"}}
        behind.request(self.command, self.path, body=body or None, headers=headers)
        answer = behind.getresponse()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in OF_THE_CONNECTION:
                self.send_header(name, value)
        self.end_headers()  # HTTP/1.0: the end of the connection is the end of the body
        whole = b""
        while piece := answer.read1():
            whole += piece
            self.wfile.write(piece)
        behind.close()
        self._check(body, answer, whole)

    def _read(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _pass

    def _check(self, body: bytes, answer: http.client.HTTPResponse, whole: bytes) -> None:
        path, _, query = self.path.partition("?")
        self.server.paths.append(f"{self.command} {path}")
        if SPECIFICATION.is_file():
            try:
                given = sent(self.headers.get("content-type", ""), body)
                content_type, request_id = answer.headers.get("content-type", ""), answer.headers.get("x-request-id")
                check(Exchange(self.command, path, query, given, answer.status, content_type, whole, request_id))
            except AssertionError as problem:
                self.server.problems.append(str(problem))

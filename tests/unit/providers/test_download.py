"""Fetching files, from a real server on this machine."""
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from feinschliff.core.service_errors import Forbidden, RequestError, TooLarge
from feinschliff.providers.download import fetch

CONTENT = b"x" * 300_000


class Files(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("location", "/file?sig=secret")
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("content-length", "10")
        else:
            self.send_response(200 if self.path.startswith("/file") else 404)
        self.end_headers()
        if self.path.startswith("/file"):
            self.wfile.write(CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address():
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def fetched(url, allowed, most_bytes=1 << 20):
    pieces = []
    fetch(url, allowed, pieces.append, most_bytes=most_bytes)
    return b"".join(pieces)


def test_a_host_is_allowed_by_its_name_or_with_one_port(address):
    assert fetched(f"http://{address}/file?sig=secret", {"127.0.0.1"}) == CONTENT
    assert fetched(f"http://{address}/file", {address}) == CONTENT


@pytest.mark.parametrize("allowed", [set(), {"localhost"}, {"127.0.0.1:1"}])
def test_no_other_host_is_asked(address, allowed):
    with pytest.raises(Forbidden, match=r"not imported from 127\.0\.0\.1"):
        fetched(f"http://{address}/file", allowed)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "http://[", "nothing"])
def test_only_addresses_of_the_web_are_taken(url):
    with pytest.raises(RequestError, match="http or https"):
        fetched(url, {"127.0.0.1", ""})


@pytest.mark.parametrize(("path", "why"), [("/elsewhere", "answered 302"), ("/none", "answered 404"), ("/short", "broke off")])
def test_what_is_not_there_or_leads_elsewhere_is_an_error(address, path, why):
    with pytest.raises(RequestError, match=why) as failed:
        fetched(f"http://{address}{path}", {address})
    assert "secret" not in str(failed.value)


def test_a_server_that_is_not_there_is_an_error():
    with pytest.raises(RequestError, match="could not be read"):
        fetched("http://127.0.0.1:9/file", {"127.0.0.1"})


def test_a_file_that_is_too_large_is_given_up(address):
    with pytest.raises(TooLarge):
        fetched(f"http://{address}/file", {address}, most_bytes=1000)

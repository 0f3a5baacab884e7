"""Keys, scopes, projects, and what a server answers to those without."""
import re
import socket
import sqlite3
import subprocess
import sys

import pytest
from openai import AuthenticationError, NotFoundError, PermissionDeniedError
from running import ADMIN_KEY, Server
from test_files import upload


def test_unknown_and_missing_keys_are_refused(server, contract):
    with pytest.raises(AuthenticationError, match="Incorrect API key"):
        server.client("wrong").files.list()
    answer = server.http(None).get("/v1/files")
    assert answer.status_code == 401
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]


def test_a_key_in_azures_header_is_as_good(server):
    assert server.http(None).get("/v1/files", headers={"api-key": ADMIN_KEY}).status_code == 200


def test_scopes_bound_what_a_key_may_do(server):
    reader = server.client(server.run("keys", "create", "looks", "--scope", "read"))
    reader.files.list()
    with pytest.raises(PermissionDeniedError, match="scope 'write'"):
        upload(reader)


def test_projects_do_not_see_each_other(server):
    ours, theirs = (server.client(server.run("keys", "create", "k", "--project", name)) for name in ("ours", "theirs"))
    file = upload(ours)
    assert [f.id for f in ours.files.list()] == [file.id]
    assert list(theirs.files.list()) == []
    for attempt in (theirs.files.retrieve, theirs.files.content, theirs.files.delete):
        with pytest.raises(NotFoundError):
            attempt(file.id)
    assert ours.files.retrieve(file.id).id == file.id


def test_a_revoked_key_opens_nothing_at_once(server):
    key = server.run("keys", "create", "leaves")
    client = server.client(key)
    client.files.list()
    listed = next(line for line in server.run("keys", "list").splitlines() if "leaves" in line)
    server.run("keys", "revoke", re.search(r"key_\w+", listed).group(0))
    with pytest.raises(AuthenticationError):
        client.files.list()
    assert "revoked" in next(line for line in server.run("keys", "list").splitlines() if "leaves" in line)


def test_keys_are_stored_as_hashes_and_never_logged(server):
    key = server.run("keys", "create", "secret")
    server.client(key).files.list()
    tables = sqlite3.connect(f"file:{server.data / 'feinschliff.sqlite'}?mode=ro", uri=True)
    stored = "\n".join(tables.iterdump())
    tables.close()
    assert key not in stored
    assert ADMIN_KEY not in stored
    assert key not in server.log
    assert ADMIN_KEY not in server.log


def test_the_first_start_prints_a_key_once(tmp_path):
    server = Server(tmp_path, FEINSCHLIFF_ADMIN_KEY="").start()
    (line,) = [line for line in server.printed if line.startswith("admin key")]
    upload(server.client(line.split()[-1]))
    assert server.stop() == 0
    server.printed.clear()
    server.start()
    assert not [line for line in server.printed if "key" in line]
    server.stop()


def _refused(*options, **environment):
    command = [sys.executable, "-m", "feinschliff.cli.main", "serve", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment or None)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr


def test_listening_beyond_this_machine_needs_keys(tmp_path):
    said = _refused("--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path))
    assert "refusing to listen on 0.0.0.0" in said
    assert "feinschliff keys create" in said


def test_a_port_in_use_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"Cannot listen on 127.0.0.1 port {port}" in _refused("--port", port, "--data-dir", str(tmp_path))

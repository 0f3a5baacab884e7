"""Events are read once, whatever was stored of them and however the file grows."""
from pathlib import Path

import pytest

from feinschliff.providers.run_log import RunLogs


@pytest.fixture
def log(tmp_path):
    return tmp_path / "events.jsonl"


def add(log: Path, text: str) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(text)


def test_each_look_goes_on_after_the_last(log):
    logs = RunLogs()
    assert logs.after(log, 0) == []
    add(log, "a\nb\nto")
    assert logs.after(log, 0) == [b"a", b"b"]
    add(log, "rn\nd\n")
    assert logs.after(log, 2) == [b"torn", b"d"]
    assert logs.after(log, 4) == []


def test_what_is_known_is_not_read_again(log):
    logs = RunLogs()
    add(log, "a\nb\n")
    logs.after(log, 0)
    log.write_text("?\n?\nc\n", encoding="utf-8")  # as long as before: only bytes after the second line are looked at
    assert logs.after(log, 2) == [b"c"]


def test_what_was_not_stored_is_read_again(log):
    logs = RunLogs()
    add(log, "a\nb\n")
    assert logs.after(log, 0) == [b"a", b"b"]
    add(log, "c\n")
    assert logs.after(log, 1) == [b"b", b"c"]
    assert logs.after(log, 3) == []


def test_after_a_restart_or_when_forgotten_lines_are_counted(log):
    add(log, "a\nb\nc\n")
    logs = RunLogs()
    assert logs.after(log, 2) == [b"c"]
    logs.forget(log)
    assert logs.after(log, 1) == [b"b", b"c"]
    assert RunLogs().after(log, 9) == []

import signal
import sys

import pytest

from feinschliff.compute import process


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module that a child can run with -m."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(text: str) -> str:
        (tmp_path / "child_program.py").write_text(text, encoding="utf-8")
        return "child_program"

    return write


def test_arguments_pipes_and_log(module, tmp_path):
    name = module("import sys\nfor line in sys.stdin: print(sys.argv[1], line.strip(), flush=True)\nprint('ü', file=sys.stderr)")
    child = process.start(name, ["said:"], tmp_path / "logs" / "log.txt", talk=True)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("grüezi\n")
    child.stdin.flush()
    assert child.stdout.readline() == "said: grüezi\n"
    process.stop(child)
    assert child.returncode == 0
    assert child.stdin.closed
    assert child.stdout.closed
    assert process.last_lines(tmp_path / "logs" / "log.txt") == "ü"


def test_a_child_reaches_no_hub(module, tmp_path):
    name = module("import os, sys\nprint(os.environ['HF_HUB_OFFLINE'], file=sys.stderr)")
    assert process.start(name, [], tmp_path / "log").wait(60) == 0
    assert process.last_lines(tmp_path / "log") == "1"


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc")
def test_products_of_ever_new_sizes_do_not_fill_the_memory(module, tmp_path):
    """As the steps of a training are: no two need have the same number of tokens."""
    name = module("""
import ctypes, sys, torch
fields = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = type("Info", (ctypes.Structure,), {"_fields_": [(f, ctypes.c_size_t) for f in fields]})
weight = torch.randn(640, 640).bfloat16()
for rows in range(1, 601):
    torch.randn(rows, 640).bfloat16() @ weight
    if rows in (300, 600):
        print(libc.mallinfo2().uordblks, flush=True)
""")
    child = process.start(name, [], tmp_path / "log", talk=True)
    assert child.stdout is not None
    halfway, end = (int(line) for line in child.stdout)
    process.stop(child)
    assert end < halfway + 8_000_000


def test_the_log_is_appended_to(module, tmp_path):
    name = module("import sys\nsys.stderr.write('again\\n')")
    for _ in range(2):
        process.start(name, [], tmp_path / "log").wait(60)
    assert (tmp_path / "log").read_text(encoding="utf-8") == "again\nagain\n"


def test_a_child_that_does_not_listen_is_asked_then_killed(module, tmp_path):
    name = module("import signal, time\nprint('up', flush=True)\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(600)")
    child = process.start(name, [], tmp_path / "log", talk=True)
    assert child.stdout is not None
    child.stdout.readline()
    process.stop(child, grace_s=0.1)
    assert child.returncode == -signal.SIGKILL


def test_a_child_without_pipes_is_asked_to_end(module, tmp_path):
    child = process.start(module("import time\ntime.sleep(600)"), [], tmp_path / "log")
    process.stop(child)
    assert child.returncode == -signal.SIGTERM


def test_a_dead_child_can_be_stopped(module, tmp_path):
    child = process.start(module("raise SystemExit(3)"), [], tmp_path / "log", talk=True)
    child.wait(60)
    process.stop(child)
    assert child.returncode == 3


def test_no_log_no_lines(tmp_path):
    assert process.last_lines(tmp_path / "none") == ""

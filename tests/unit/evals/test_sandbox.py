"""A client's Python is run, and can do nothing but compute."""
import pytest

from feinschliff.evals.criteria.failed import NotGraded
from feinschliff.evals.sandbox import guard
from feinschliff.evals.sandbox.child import Sandbox


@pytest.fixture
def run():
    """A source's score, or why there is none."""

    def run(source, sample=None, item=None, **options):
        sandbox = Sandbox(source, **({"timeout_s": 20.0} | options))
        try:
            return sandbox(sample or {}, item or {})
        finally:
            sandbox.close()

    return run


def body(code):
    return f"def grade(sample, item):\n    {code}\n    return 1.0\n"


def test_one_process_scores_many_items_and_is_started_again_after_its_death():
    sandbox = Sandbox(
        "import re\nimport rapidfuzz\ndef grade(sample, item):\n    print('noise')\n    while item.get('loop'): pass\n"
        "    return bool(re.match('y', sample['output_text'])) + item['n']\n", timeout_s=2.0,
    )  # fmt: skip
    try:
        assert sandbox({"output_text": "yes"}, {"n": 2}) == 3
        assert sandbox({"output_text": "no"}, {"n": 0.5}) == 0.5
        with pytest.raises(NotGraded, match="longer than 2 s"):
            sandbox({"output_text": "no"}, {"n": 1, "loop": True})
        assert sandbox({"output_text": "yes"}, {"n": 1}) == 2
        with pytest.raises(NotGraded, match=r"KeyError.*line 6"):
            sandbox({}, {"n": 1})
    finally:
        sandbox.close()


@pytest.mark.parametrize(
    "code",
    [
        "open('/etc/passwd').read()", "open('/tmp/x', 'w')", "import os; os.listdir('/'); os.open('/etc/passwd', os.O_RDONLY)",
        "import socket; socket.create_connection(('127.0.0.1', 9), timeout=1)", "import os; os.fork()", "import os; os.system('true')",
        "import subprocess; subprocess.run(['true'])", "import ctypes; ctypes.CDLL(None)", "import os; os.kill(os.getppid(), 9)",
    ],
)  # fmt: skip
def test_files_network_and_processes_are_out_of_reach(run, code):
    with pytest.raises(NotGraded, match=r"PermissionError|not allowed|out of a grader"):
        run(body(code))


@pytest.mark.skipif(not guard.kernel_guards(), reason="this kernel has no Landlock")
def test_the_kernel_refuses_what_gets_past_python(run):
    """Listing a folder raises no audit event that we refuse: it is Landlock that says no."""
    with pytest.raises(NotGraded, match=r"PermissionError: \[Errno 13\]"):
        run(body("import os; os.listdir('/')"))


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (body("x = bytearray(1 << 29)"), "MemoryError"), ("grade = 1 / 0", "ZeroDivisionError"), ("def grade(s, i): return 'high'", "no number"),
        ("def grade(s, i): return float('nan')", "no number"), (body("import sys; sys.exit(0)"), "SystemExit"), (body("import os; os._exit(0)"), "ended"),
    ],
)  # fmt: skip
def test_what_gives_no_score_is_an_error_of_the_grader(run, source, why):
    with pytest.raises(NotGraded, match=why) as told:
        run(source, memory_bytes=1 << 28)
    assert told.value.kind == "python_grader_runtime_error"


def test_no_secrets_are_passed_on(run, monkeypatch):
    monkeypatch.setenv("FEINSCHLIFF_ADMIN_KEY", "secret")
    assert run("import os\ndef grade(s, i): return float('FEINSCHLIFF_ADMIN_KEY' in os.environ)") == 0

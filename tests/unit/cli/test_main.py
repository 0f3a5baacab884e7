"""The command line starts light and says what it is."""
import subprocess
import sys

HEAVY = ("torch", "transformers", "altair", "duckdb", "pyarrow", "ladybug", "gqlppy")


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, encoding="utf-8", check=False)


def test_command_line_loads_no_framework():
    script = "import sys, feinschliff.cli.main; print([m for m in sys.argv[1:] if m in sys.modules])"
    assert run("-c", script, *HEAVY).stdout == "[]\n"


def test_version_and_unknown_command():
    done = run("-m", "feinschliff.cli.main", "--version")
    assert (done.returncode, done.stdout.startswith("feinschliff "), done.stderr) == (0, True, "")
    done = run("-m", "feinschliff.cli.main", "studdy")
    assert done.returncode == 2
    assert "studdy" in done.stderr

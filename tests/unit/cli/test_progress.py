"""What a terminal and a log file see of the work."""
import io

from rich.console import Console

from feinschliff.cli.progress import TerminalObserver


def watched(*, terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)
    with TerminalObserver(console) as observer:
        observer.stage("base: test set", 30)
        observer.advance(12)
        observer.stage("[odd] arm", 5)
        observer.note("see [/tmp/x]")
        observer.advance(5)
    return console.file.getvalue()


def test_log_gets_a_line_a_stage_and_a_note():
    assert watched(terminal=False).splitlines() == ["· base: test set (30)", "· [odd] arm (5)", "· see [/tmp/x]"]


def test_terminal_gets_a_bar_a_stage_that_ends_full():
    last = watched(terminal=True).rsplit("\x1b[2K", 1)[-1]
    assert "base: test set" in last
    assert "30/30" in last
    assert "[odd] arm" in last
    assert "5/5" in last


def test_progress_before_a_stage_is_no_error():
    with TerminalObserver(Console(file=io.StringIO())) as observer:
        observer.advance(3)

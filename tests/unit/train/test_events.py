from feinschliff.core.jobs import Checkpoint, Failed
from feinschliff.train.events import EventLog


def test_a_torn_last_line_is_cut_off_and_whole_lines_stay(tmp_path):
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.append(Checkpoint(step=1, path="a"))
    log.append(Checkpoint(step=2, path="b"))
    with path.open("ab") as file:
        file.write('{"kind":"checkpoint","step":3,"path":"ü'.encode()[:-1])  # torn inside a character
    again = EventLog(path)
    again.append(Failed(code="x", message="y"))
    assert again.read() == [Checkpoint(step=1, path="a"), Checkpoint(step=2, path="b"), Failed(code="x", message="y")]


def test_no_file_no_events(tmp_path):
    assert EventLog(tmp_path / "events.jsonl").read() == []


def test_text_with_unusual_line_ends_stays_one_event(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    failed = Failed(code="x", message="one\u2028two\x85three\nfour")
    log.append(failed)
    assert log.read() == [failed]

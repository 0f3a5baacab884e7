"""`python -m feinschliff.serve MODEL --live` as a child process."""
import json

import pytest

from feinschliff.compute import process
from feinschliff.core.chat import user
from feinschliff.core.live import (
    LIVE_EVENT,
    AskStats,
    Cancel,
    ChatPrompt,
    Completed,
    Declined,
    Ended,
    LiveReady,
    LiveSampling,
    Piece,
    Stats,
    Submit,
    TokenPrompt,
)


@pytest.fixture
def start(tmp_path):
    children = []

    def begin(folder, *options):
        children.append(process.start("feinschliff.serve", [str(folder), "--live", *options], tmp_path / "log.txt", talk=True))
        return children[-1]

    yield begin
    for child in children:
        process.stop(child)


def say(child, *requests):
    child.stdin.write("".join(r if isinstance(r, str) else r.model_dump_json(by_alias=True) + "\n" for r in requests))
    child.stdin.flush()


def hear(child):
    return LIVE_EVENT.validate_json(child.stdout.readline())


def test_requests_overlap_and_the_program_ends_with_its_stdin(start, tiny_model):
    child = start(tiny_model, "--limits", json.dumps({"slots": 4}))
    assert isinstance(hear(child), LiveReady)
    chat = ChatPrompt(messages=(user("How many?"),))
    endless = Submit(id="endless", prompt=TokenPrompt(tokens=(5, 6)), sampling=LiveSampling(ignore_end=True, temperature=0))
    say(child, endless, "no json\n")
    heard = [hear(child)]
    while not any(isinstance(e, Piece) for e in heard):
        heard.append(hear(child))
    say(child, Submit(id="chat", prompt=chat, sampling=LiveSampling(max_tokens=4, temperature=0, ignore_end=True)))
    while not isinstance(heard[-1], Completed):
        heard.append(hear(child))
    assert heard[-1].id == "chat"  # the one that came later was not kept waiting by the endless one
    assert [(e.id, e.code) for e in heard if isinstance(e, Declined)] == [("", "bad_request")]
    assert [e.finish_reason for e in heard if isinstance(e, Ended)] == ["length"]
    say(child, Cancel(id="endless"), AskStats(id="s"))
    while not isinstance(heard[-1], Stats):
        heard.append(hear(child))
    assert heard[-1].active == 0
    rest, _ = child.communicate(timeout=60)
    assert rest == ""
    assert child.returncode == 0


def test_a_folder_that_is_no_model(start, tmp_path):
    child = start(tmp_path)
    declined = hear(child)
    assert (declined.id, declined.code) == ("", "model_unavailable")
    assert child.wait(60) == 1

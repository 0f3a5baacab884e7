"""Locked database, damaged bytes, a program without memory, a clock that goes back: each from its real cause."""
import sqlite3
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer

import psutil
import pytest
from openai import InternalServerError
from running import Server, wait_until
from test_files import processed, training_lines, upload
from test_jobs import LONG, ended, start, steps_of, trains

FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
DAY_S = 24 * 3600


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny_model):
    server = Server(tmp_path_factory.mktemp("faults"), "--model", f"tiny={tiny_model}", "--limit", "database_wait_s=2").start()
    yield server
    server.stop()


@contextmanager
def locked(server):
    """Another process's write transaction, or a copying program's; the same to SQLite."""
    other = sqlite3.connect(server.data / "feinschliff.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield other
    finally:
        with suppress(sqlite3.OperationalError):
            other.execute("ROLLBACK")
        other.close()


def test_a_database_that_is_locked_for_a_moment_is_waited_for(server):
    with locked(server) as other:
        Timer(0.5, other.execute, ["ROLLBACK"]).start()
        assert server.http().post("/v1/deployments", json={"name": "waited", "model": "tiny"}).is_success


def test_a_database_that_stays_locked_is_503_and_loses_nothing(server, client):
    http = server.http()
    job = start(client, n=40, hyperparameters=LONG | {"n_epochs": 5})
    trains(client, job.id)
    with locked(server):
        answer = http.post("/v1/deployments", json={"name": "locked", "model": "tiny"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), answer.text
        with pytest.raises(InternalServerError, match="busy or cannot be reached"):
            upload(client, b"x", "x.txt", "user_data")
        assert client.fine_tuning.jobs.retrieve(job.id).status in ("running", "succeeded")  # reading goes on
    assert http.post("/v1/deployments", json={"name": "locked", "model": "tiny"}).is_success
    assert ended(client, job.id).status == "succeeded"
    assert steps_of(client, job.id) == list(range(1, 201))
    assert '"status": 500' not in server.log


def flip_a_bit(server, content):
    (blob,) = [p for p in (server.data / "blobs").glob("??/*") if p.read_bytes() == content]
    blob.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])


def test_a_damaged_file_is_named_and_no_job_trains_on_it(server, client):
    content = training_lines(15)
    file = upload(client, content)
    assert processed(client, file.id).status == "processed"
    flip_a_bit(server, content)
    answer = server.http().get(f"/v1/files/{file.id}/content")
    assert answer.status_code == 500
    said = answer.json()["error"]["message"]
    assert f"The file {file.id} (train.jsonl) is damaged" in said
    assert "Restore them from a backup, or upload the file again." in said
    job = ended(client, client.fine_tuning.jobs.create(model="tiny", training_file=file.id).id)
    assert (job.status, job.error.code, job.error.param) == ("failed", "corrupt_file", "training_file")
    assert f"The file {file.id} (train.jsonl) is damaged" in job.error.message
    again = upload(client, content)  # the remedy: the right bytes take the place of the wrong ones
    assert client.files.content(file.id).read() == client.files.content(again.id).read() == content


def test_damaged_events_of_a_run_fail_that_job_and_no_other(server, client):
    job = start(client, n=40, hyperparameters=LONG)
    trains(client, job.id)
    log = server.data / "runs" / job.id / "events.jsonl"
    with log.open("ab") as file:
        file.write(b"\x00rubbish\n")
    failed = ended(client, job.id)
    assert (failed.status, failed.error.code) == ("failed", "corrupt_run")
    assert f"{job.id}/events.jsonl is damaged" in failed.error.message
    assert ended(client, start(client).id).status == "succeeded"


def test_a_program_that_is_killed_again_and_again_fails_with_its_last_words(server, client):
    job = start(client, n=40, hyperparameters=LONG)
    program = server.data / "runs" / job.id / "program"

    def kill_or_ended():
        with suppress(OSError, ValueError, IndexError, psutil.Error):
            psutil.Process(int(program.read_text().split()[0])).kill()
        return client.fine_tuning.jobs.retrieve(job.id).status == "failed"

    wait_until(kill_or_ended, seconds=120, every_s=0.05)
    said = client.fine_tuning.jobs.retrieve(job.id).error
    assert said.code == "training_died"
    assert "ended 3 times without a further step" in said.message
    assert "MiB of memory" in said.message
    assert "Signal 9 (SIGKILL) ended it." in said.message


def test_two_pauses_within_a_second_are_two_events(server, client):
    job = start(client, n=40, hyperparameters=LONG)
    for _ in range(3):
        client.fine_tuning.jobs.pause(job.id)
        client.fine_tuning.jobs.resume(job.id)
    assert [e.message for e in client.fine_tuning.jobs.list_events(job.id)].count("The job has been paused") == 3
    client.fine_tuning.jobs.cancel(job.id)


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed (Debian: faketime)")
def test_a_clock_that_goes_back_changes_no_order_and_takes_nothing_away(tmp_path, tiny_model):
    clock = tmp_path / "clock"
    faked = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    def turn(offset_s):
        clock.write_text(f"{offset_s:+d}\n")

    turn(0)
    server = Server(tmp_path, "--model", f"tiny={tiny_model}", **faked).start()
    client = server.client()
    first = upload(client, b"1", "1.txt", "user_data", expires_after={"anchor": "created_at", "seconds": 3600})
    job = start(client, n=40, hyperparameters=LONG | {"n_epochs": 5})
    assert server.http().post("/v1/deployments", json={"name": "d", "model": "tiny", "tier": "developer"}).is_success
    trains(client, job.id)
    turn(-2 * DAY_S)
    second = upload(client, b"2", "2.txt", "user_data", expires_after={"anchor": "created_at", "seconds": 3600})
    assert second.created_at < first.created_at - DAY_S
    assert [f.id for f in client.files.list(purpose="user_data", limit=1)] == [second.id, first.id]
    assert [f.id for f in client.files.list(purpose="user_data", limit=1, order="asc")] == [first.id, second.id]
    server.kill()
    server.start()  # the program that was born "in the future" is found and not begun again
    client = server.client()
    assert ended(client, job.id).status == "succeeded"
    assert steps_of(client, job.id) == list(range(1, 201))
    assert (server.data / "runs" / job.id / "events.jsonl").read_text().count('"started"') == 1
    time.sleep(3)  # a look of the janitor
    assert {f.id for f in client.files.list(purpose="user_data")} == {first.id, second.id}
    assert server.http().get("/v1/deployments/d").is_success
    turn(-2 * DAY_S + 3700)  # by its own clock an hour later: the second file's time is over, the first one's is not
    assert wait_until(lambda: {f.id for f in client.files.list(purpose="user_data")} == {first.id})
    turn(DAY_S + 60)
    assert wait_until(lambda: not list(client.files.list(purpose="user_data")))
    assert wait_until(lambda: server.http().get("/v1/deployments/d").status_code == 404)
    assert server.stop() == 0

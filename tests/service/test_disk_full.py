"""A full disk, a real one: a small tmpfs holds the data folder."""
import os
import subprocess
import time
from contextlib import suppress

import pytest
from openai import APIStatusError
from running import Server, wait_until
from test_files import upload
from test_jobs import ended, start, steps_of, trains, weights

DISK_BYTES, SPARE_BYTES = 40 << 20, 1 << 20
JOB = {"n_epochs": 40, "batch_size": 2}  # of 40 examples: 800 steps, a checkpoint every 20; longer than filling the disk takes


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder], capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: that needs root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny_model, disk):
    """Its log is on another disk, so that it can be read."""
    server = Server(tmp_path_factory.mktemp("service"), "--model", f"tiny={tiny_model}", "--limit", f"spare_bytes={SPARE_BYTES}")
    server.data = disk / "data"
    yield server.start()
    server.stop()


@pytest.fixture(scope="module")
def undisturbed(server, client):
    return weights(server, ended(client, start(client, n=40, hyperparameters=JOB).id).id)


def free(disk):
    stat = os.statvfs(disk)
    return stat.f_bavail * stat.f_frsize


def fill(disk, left):
    """Another program's file, which takes all but `left` bytes."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        for _ in range(100):
            with suppress(OSError):  # the training program was quicker
                os.posix_fallocate(file.fileno(), 0, max(1, free(disk) - left))
                break
    return filler


def refused(call):
    with pytest.raises(APIStatusError, match="Insufficient storage") as error:
        call()
    assert (error.value.status_code, error.value.body["code"]) == (507, "insufficient_storage")


def test_an_upload_that_does_not_fit_is_refused_and_leaves_nothing(server, client, disk):
    before = free(disk)
    big = os.urandom(DISK_BYTES)
    refused(lambda: upload(client, big, "big.bin", "user_data"))
    made = client.uploads.create(bytes=len(big), filename="a", mime_type="text/plain", purpose="user_data")
    refused(lambda: client.uploads.parts.create(made.id, data=big))
    assert not list((server.data / "blobs" / "incoming").iterdir())
    assert before - free(disk) < 1 << 20
    assert upload(client, b"small", "a.txt", "user_data").bytes == 5
    assert server.http().get("/readyz").status_code == 200


def test_the_last_bytes_are_not_for_uploads(server, client, disk):
    filler = fill(disk, SPARE_BYTES // 2)
    try:
        refused(lambda: upload(client, b"small", "a.txt", "user_data"))
        assert client.uploads.create(bytes=5, filename="a", mime_type="text/plain", purpose="user_data").id  # a row
        assert server.http().get("/readyz").status_code == 507
    finally:
        filler.unlink()
    assert upload(client, b"small", "a.txt", "user_data").bytes == 5


@pytest.mark.parametrize("left", [0, 200_000])
def test_training_waits_for_room_and_goes_on_to_the_same_bits(server, client, disk, undisturbed, left):
    """With some bytes left the job can tell why it waits; with none not even that, and it goes on all the same."""
    job = start(client, n=40, hyperparameters=JOB)
    trains(client, job.id, beyond=3)
    filler = fill(disk, left)
    try:
        wait_until(lambda: not any(server.data.glob("runs/*/program")) if left else "disk" in server.log, seconds=120, every_s=0.2)
        assert client.fine_tuning.jobs.retrieve(job.id).status in ("queued", "running")
        if left:
            warned = [e.message for e in client.fine_tuning.jobs.list_events(job.id, limit=100) if e.level == "warn"]
            assert "The disk is full: the job waits, and goes on by itself when there is room." in warned[0]
        time.sleep(3)
    finally:
        filler.unlink()
    assert ended(client, job.id).status == "succeeded"
    assert steps_of(client, job.id) == list(range(1, 801))
    assert weights(server, job.id) == undisturbed


def test_a_job_does_not_begin_and_does_not_fail_while_there_is_no_room(server, client, disk, undisturbed):
    job = start(client, n=40, hyperparameters=JOB)
    filler = fill(disk, 500_000)
    try:
        wait_until(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "queued")
        time.sleep(3)
        assert client.fine_tuning.jobs.retrieve(job.id).status == "queued"
    finally:
        filler.unlink()
    assert ended(client, job.id).status == "succeeded"
    assert weights(server, job.id) == undisturbed


def test_results_are_written_when_there_is_room(server, client, disk, undisturbed):
    job = start(client, n=40, hyperparameters=JOB)
    run = server.data / "runs" / job.id
    wait_until(lambda: (run / "model").exists() or (run / ".model.partial").exists(), seconds=120, every_s=0.001)
    filler = fill(disk, 0)
    time.sleep(4)
    filler.unlink()
    done = ended(client, job.id)
    assert done.status == "succeeded", done.error
    assert weights(server, job.id) == undisturbed
    assert client.files.content(done.result_files[0]).text.count("\n") == 801

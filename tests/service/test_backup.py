"""Backup of a running server, and a server on what was restored."""
import errno
import os
import subprocess
import sys
import time

import pytest
from openai import NotFoundError
from running import Server, wait_until
from test_files import training_lines, upload
from test_jobs import SHORT, ended, start, steps_of, trains, weights

from feinschliff.app.backup import back_up
from feinschliff.app.elsewhere import MARK, RESTS
from feinschliff.data.files import write_text
from in_process import application


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "feinschliff.cli.main", *map(str, arguments)], capture_output=True, text=True, check=False)


def backup_of(server, target):
    made = command("backup", target, "--data-dir", server.data)
    assert made.returncode == 0, made.stderr


@pytest.fixture(scope="module")
def backed_up(server, client, tmp_path_factory):
    """An ended job, one in the middle of its training, and a backup made meanwhile."""
    done = ended(client, start(client).id)
    running = start(client, n=40, hyperparameters=SHORT | {"n_epochs": 40})
    while not steps_of(client, running.id):
        time.sleep(0.1)
    target = tmp_path_factory.mktemp("backups") / "one"
    backup_of(server, target)
    return done, running, target


def test_a_restored_server_goes_on_where_the_backup_was_made(server, client, backed_up, tiny_model, tmp_path):
    done, running, target = backed_up
    later = upload(client, training_lines(20))
    assert command("restore", target, "--data-dir", tmp_path / "data").returncode == 0
    second = Server(tmp_path, "--model", f"tiny={tiny_model}").start()
    other = second.client()
    assert other.fine_tuning.jobs.retrieve(done.id).fine_tuned_model == done.fine_tuned_model
    assert other.files.content(done.training_file).read() == training_lines()
    assert weights(second, done.id) == weights(server, done.id)
    assert other.chat.completions.create(model=done.fine_tuned_model, messages=[{"role": "user", "content": "a"}], max_tokens=2).choices
    with pytest.raises(NotFoundError):
        other.files.retrieve(later.id)
    assert (ended(other, running.id).status, ended(client, running.id).status) == ("succeeded", "succeeded")
    assert weights(second, running.id) == weights(server, running.id)
    assert steps_of(other, running.id) == steps_of(client, running.id) == list(range(1, 401))
    assert second.stop() == 0


def test_a_folder_in_use_is_refused_unless_told(backed_up, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "mine").write_text("kept")
    refused = command("restore", backed_up[2], "--data-dir", data)
    assert refused.returncode == 2
    assert "is not empty" in refused.stderr
    assert "--replace" in refused.stderr
    assert command("restore", backed_up[2], "--data-dir", data, "--replace").returncode == 0
    assert [p.read_text() for p in tmp_path.glob("data.replaced-*/mine")] == ["kept"]
    assert (data / "feinschliff.sqlite").is_file()
    again = command("backup", backed_up[2], "--data-dir", data)
    assert "is not empty" in again.stderr


def test_damage_is_found_and_nothing_restored(server, backed_up, tmp_path):
    assert command("restore", tmp_path, "--data-dir", tmp_path / "data").stderr.count("no whole backup") == 1
    copy = tmp_path / "copy"
    assert command("restore", backed_up[2], "--data-dir", copy).returncode == 0
    blob = next((copy / "blobs").glob("??/*"))
    blob.write_bytes(b"other")
    made = command("backup", tmp_path / "second", "--data-dir", copy)
    assert made.returncode == 1
    assert f"blobs/{blob.parent.name}/{blob.name}" in made.stderr
    (tmp_path / "second" / "feinschliff.sqlite").write_bytes(b"short")
    refused = command("restore", tmp_path / "second", "--data-dir", tmp_path / "data")
    assert refused.returncode == 2
    assert "checksum differs" in refused.stderr
    assert not (tmp_path / "data").exists()


def test_a_continued_job_under_way_goes_on_after_a_restore_without_its_parent(server, client, backed_up, tiny_model, tmp_path):
    """It was stopped and went on before the backup, so its events file told more lines than a run from the beginning will."""
    parent = ended(client, start(client, suffix="parent").id)
    file = upload(client, training_lines(40)).id
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 20, "batch_size": 2}}}
    job = client.fine_tuning.jobs.create(model=parent.fine_tuned_model, training_file=file, method=method, seed=7)
    trains(client, job.id, beyond=30)
    client.fine_tuning.jobs.pause(job.id)
    wait_until(lambda: not (server.data / "runs" / job.id / "program").exists())
    for name in (parent.fine_tuned_model, f"{parent.fine_tuned_model}:ckpt-step-6", f"{parent.fine_tuned_model}:ckpt-step-3"):
        client.models.delete(name)
    client.fine_tuning.jobs.resume(job.id)
    n_steps = max(steps_of(client, job.id))
    trains(client, job.id, beyond=n_steps)
    backup_of(server, tmp_path / "backup")
    assert command("restore", tmp_path / "backup", "--data-dir", tmp_path / "data").returncode == 0
    second = Server(tmp_path, "--model", f"tiny={tiny_model}").start()
    other = second.client()
    again, first = ended(other, job.id), ended(client, job.id)
    assert (again.status, first.status) == ("succeeded", "succeeded"), again.error
    assert weights(second, job.id) == weights(server, job.id)
    assert steps_of(other, job.id) == steps_of(client, job.id) == list(range(1, 401))
    assert second.stop() == 0


def test_nothing_is_restored_beside_a_server_or_a_program_that_one_left_behind(server, client, backed_up, tiny_model, tmp_path):
    second = Server(tmp_path, "--model", f"tiny={tiny_model}").start()
    refused = command("restore", backed_up[2], "--data-dir", second.data, "--replace")
    assert (refused.returncode, "A server runs on" in refused.stderr) == (2, True)
    beside = command("serve", "--port", "0", "--data-dir", second.data)
    assert (beside.returncode, "A server runs on" in beside.stderr) == (2, True)
    other = second.client()
    job = start(other, n=40, hyperparameters=SHORT | {"n_epochs": 50, "batch_size": 1})
    trains(other, job.id)
    second.kill()
    refused = command("restore", backed_up[2], "--data-dir", second.data, "--replace")
    assert (refused.returncode, "A training program still works in" in refused.stderr) == (2, True)
    second.start()
    second.stop()
    assert command("restore", backed_up[2], "--data-dir", second.data, "--replace").returncode == 0


def test_a_backup_needs_no_second_names(tmp_path, monkeypatch):
    """As on FAT or a network share. Hard links cannot be had away here, so the call itself refuses, as it does there."""

    def refuses(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    with application(tmp_path) as (service, client):
        file = client.post("/v1/files", data={"purpose": "user_data"}, files={"file": ("a.txt", b"kept")}).json()
        monkeypatch.setattr(os, "link", refuses)
        made = back_up(service, tmp_path / "backup")
        assert (made.damaged, file["bytes"]) == ((), 4)
        assert [p.read_bytes() for p in (tmp_path / "backup" / "blobs").glob("??/*")] == [b"kept"]


def test_what_is_to_be_told_at_a_provider_is_in_a_backup(tmp_path, tiny_model):
    """A paused job that is cancelled after the way back is still going on there."""
    with application(tmp_path, models={"tiny": tiny_model}) as (service, client):
        line = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
        file = client.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", line * 10)}).json()["id"]
        job = client.post("/v1/fine_tuning/jobs", json={"model": "tiny", "training_file": file}).json()["id"]
        write_text(service.runs / job / MARK, RESTS)
        back_up(service, tmp_path / "backup")
        assert (tmp_path / "backup" / "runs" / job / MARK).read_text() == RESTS

"""What is to be told at a provider, where this machine has no room to keep what was heard; the rest: tests/service/test_jobs_at_providers.py."""
import errno

import pytest

from feinschliff.app.elsewhere import MARK, Elsewhere
from feinschliff.core.service import JobStatus
from feinschliff.providers.training_runs import TrainingRuns
from feinschliff.store.tables import JobRow
from in_process import application, training_lines

LINES = training_lines(12)


@pytest.fixture
def elsewhere(tmp_path, tiny_model):
    """With a job that was cancelled here, and may go on there."""
    with application(tmp_path, models={"tiny": tiny_model}) as (service, client):
        file = client.post("/v1/files", files={"file": ("a.jsonl", LINES.encode())}, data={"purpose": "fine-tune"}).json()["id"]
        job = client.post("/v1/fine_tuning/jobs", json={"model": "tiny", "training_file": file}).json()["id"]
        with service.database.write() as db:
            db.query(JobRow).one().status = JobStatus.CANCELLED
        runs = TrainingRuns(service.runs)
        runs.folder(job).mkdir(parents=True)
        (runs.folder(job) / MARK).touch()
        yield Elsewhere(service, runs)


def test_a_full_disk_stops_nobody_else(elsewhere, monkeypatch):
    asked = []

    def full(job, verb):
        asked.append(verb)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(elsewhere, "_tell", full)
    assert not elsewhere.step()
    assert asked == ["cancel"]
    assert len(elsewhere._waits) == 1  # it is told again, and not at once


def test_any_other_fault_is_none_of_its_business(elsewhere, monkeypatch):
    def broken(job, verb):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(elsewhere, "_tell", broken)
    with pytest.raises(OSError, match="Input/output"):
        elsewhere.step()

"""What time takes away, and what it leaves while a job needs it."""
from dataclasses import replace

from feinschliff.app.janitor import expire
from feinschliff.core.service import JobStatus
from feinschliff.store.jobs import job_of
from in_process import application

LINES = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 10
HOUR_S = 3600


def test_a_file_outlives_its_time_while_a_job_needs_it(tmp_path, tiny_model):
    with application(tmp_path, models={"tiny": tiny_model}) as (service, client):
        expires = {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(HOUR_S), "purpose": "fine-tune"}
        needed, validated, other = (
            client.post("/v1/files", data=expires, files={"file": ("t.jsonl", LINES)}).json()["id"] for _ in range(3)
        )
        asked = {"model": "tiny", "training_file": needed, "validation_file": validated}
        job = client.post("/v1/fine_tuning/jobs", json=asked).json()["id"]
        later = replace(service, clock=lambda: service.clock() + 2 * HOUR_S)
        assert expire(later)
        assert not expire(later)
        assert client.get(f"/v1/files/{other}").status_code == 404
        assert client.get(f"/v1/files/{needed}/content").content == LINES
        assert client.get(f"/v1/files/{validated}").status_code == 200
        with service.database.write() as db:
            job_of(db, job).status = JobStatus.FAILED
        assert expire(later)
        assert client.get(f"/v1/files/{needed}").status_code == 404
        assert not list(service.blobs.all())

"""A job keeps what its request meant when it was made."""

from feinschliff.core.finetune import NewJob
from feinschliff.store.job_usage import usage_of
from feinschliff.store.tables import JobRow
from in_process import application, training_lines
from remote_settings import KEY, hosted_model, resource

LINES = training_lines(12)


def test_a_location_stays_the_region_that_it_named(tmp_path, tiny_model, monkeypatch):
    """Another resource there tomorrow would be another place to make, and pay for, the same job."""
    monkeypatch.setenv(KEY, "a key")
    (tmp_path / "regions.toml").write_text(resource("http://127.0.0.1:9"), encoding="utf-8")
    (tmp_path / "models.toml").write_text(hosted_model("far"), encoding="utf-8")
    with application(tmp_path, config=tmp_path, models={"tiny": tiny_model}) as (service, client):
        file = client.post("/v1/files", files={"file": ("a.jsonl", LINES.encode())}, data={"purpose": "fine-tune"}).json()["id"]
        made = client.post("/v1/fine_tuning/jobs", json={"model": "far", "training_file": file, "region": "Sweden Central"})
        assert made.status_code == 200, made.text
        with service.database.read() as db:
            row, usage = db.query(JobRow).one(), usage_of(db, made.json()["id"])
            assert usage is not None
            assert NewJob.model_validate(row.request).region == usage.region == "resource"

"""What whoever runs the service can see: queue, audit log, metrics, traces."""
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from feinschliff.api.requests import JsonLines, PlainLines
from feinschliff.app.job_queue import expected_start
from feinschliff.core.service import JobStatus
from feinschliff.providers.traces import OtlpTraces
from feinschliff.store.tables import JobRow, JobUsageRow
from in_process import application

NOW = 1_800_000_000


def job(number, status, seconds, **more):
    row = JobRow(
        id=f"ftjob-{number}", project_id="proj_default", status=status, model="tiny", training_file="file-a", seed=1,
        request={"model": "tiny", "training_file": "file-a"}, hyperparameters={"n_epochs": 1, "batch_size": 1, "learning_rate_multiplier": 1},
        result_files=[], created_at=NOW, **more,
    )  # fmt: skip
    return row, JobUsageRow(job_id=row.id, region="here", expected_tokens=100, expected_seconds=seconds)


@pytest.fixture
def service_and_client(tmp_path):
    with application(tmp_path, clock=lambda: NOW) as opened:
        yield opened


def add(service, *jobs):
    with service.database.write() as db:
        for row, usage in jobs:
            db.add(row)
            db.flush()
            db.add(usage)


def test_a_waiting_job_knows_its_place_and_its_start(service_and_client):
    service, client = service_and_client
    add(
        service, job(1, JobStatus.RUNNING, 900, started_at=NOW - 100, estimated_finish=NOW + 60), job(2, JobStatus.QUEUED, 30),
        job(3, JobStatus.PAUSED, 30), job(4, JobStatus.QUEUED, 20),
    )  # fmt: skip
    place = client.get("/v1/fine_tuning/jobs/ftjob-4/queue").json()
    assert place == {
        "object": "fine_tuning.job.queue", "job_id": "ftjob-4", "status": "queued", "region": "here", "concurrency": 1, "running": 1,
        "waiting": 2, "position": 2, "estimated_start": NOW + 90, "estimated_finish": NOW + 110,
    }  # fmt: skip
    running = client.get("/v1/fine_tuning/jobs/ftjob-1/queue").json()
    assert (running["position"], running["estimated_start"], running["estimated_finish"]) == (None, NOW - 100, NOW + 60)
    assert client.get("/v1/fine_tuning/jobs/ftjob-9/queue").status_code == 404


def test_the_start_is_that_of_the_first_free_place_and_unknown_behind_the_unknown():
    one, two = job(1, JobStatus.RUNNING, 0, estimated_finish=NOW + 50), job(2, JobStatus.RUNNING, 0, estimated_finish=NOW - 5)
    assert expected_start(NOW, 2, [one, two], []) == NOW
    assert expected_start(NOW, 2, [one, two], [job(3, JobStatus.QUEUED, 80)]) == NOW + 50
    assert expected_start(NOW, 2, [one, two], [job(3, JobStatus.VALIDATING, 0)]) is None


def test_changes_are_listed_for_admin_keys_and_their_project_alone(service_and_client):
    service, client = service_and_client
    for name in ("a.jsonl", "b.jsonl"):
        made = client.post("/v1/files", files={"file": (name, b"{}")}, data={"purpose": "user_data"}, headers={"x-request-id": f"mine-{name}"}).json()
    client.delete(f"/v1/files/{made['id']}")
    page = client.get("/v1/audit", params={"action": "file.", "limit": 2}).json()
    assert [c["action"] for c in page["data"]] == ["file.delete", "file.create"]
    assert page["data"][1]["request_id"] == "mine-b.jsonl"
    assert page["has_more"]
    rest = client.get("/v1/audit", params={"action": "file.", "after": page["last_id"]}).json()
    assert [c["request_id"] for c in rest["data"]] == ["mine-a.jsonl"]
    assert [c["action"] for c in client.get("/v1/audit", params={"subject": made["id"]}).json()["data"]] == ["file.delete", "file.create"]
    from feinschliff.app.keys import create_key
    from feinschliff.core.service import Scope

    other = create_key(service, project="elsewhere", name="other", scope=Scope.ADMIN)[1]
    assert client.get("/v1/audit", params={"action": "file."}, headers={"authorization": f"Bearer {other}"}).json()["data"] == []
    writer = create_key(service, project="default", name="writer", scope=Scope.WRITE)[1]
    assert client.get("/v1/audit", headers={"authorization": f"Bearer {writer}"}).status_code == 403


def test_metrics_tell_of_queue_tokens_and_disk_but_not_of_projects(service_and_client):
    service, client = service_and_client
    add(service, job(1, JobStatus.QUEUED, 30))
    from feinschliff.app.usage import Answered, Asked, count, write_counts

    count(service, Asked("proj_default", "ft:tiny:local:secret:abc"), Answered(1, 10, 4, 3))
    write_counts(service)
    text = client.get("/metrics").text
    assert 'feinschliff_jobs{region="here",status="queued"} 1.0' in text
    assert 'feinschliff_job_places{region="here"} 1.0' in text
    assert 'feinschliff_tokens_total{kind="prompt",model="tiny"} 10.0' in text
    assert "feinschliff_disk_free_bytes" in text
    assert "secret" not in text


def test_a_request_is_one_line_with_its_route_and_nothing_of_its_contents(service_and_client, caplog):
    _, client = service_and_client
    with caplog.at_level(logging.INFO, "feinschliff.requests"):
        client.post("/v1/deployments", json={"name": "words", "model": "not-there"}, headers={"x-client-request-id": "theirs"})
    (record,) = [r for r in caplog.records if r.name == "feinschliff.requests"]
    line = json.loads(JsonLines().format(record))
    assert (line["route"], line["status"], line["client_request_id"], line["project"]) == ("/v1/deployments", 404, "theirs", "proj_default")
    assert line["bytes"] > 0
    assert "words" not in json.dumps(line)
    assert "admin-key" not in json.dumps(line)
    assert "route=/v1/deployments" in PlainLines().format(record)


@pytest.fixture
def collector():
    """An OTLP collector: a real HTTP server that takes protobuf."""
    spans = []

    class Take(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Take) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", spans
        server.shutdown()
        thread.join()


def test_a_request_and_the_job_that_it_made_are_one_trace(collector, tmp_path, monkeypatch):
    from dataclasses import replace

    from starlette.testclient import TestClient

    from feinschliff.api.app import create_app
    from feinschliff.app.jobs import end

    url, spans = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    with application(tmp_path, clock=lambda: NOW) as (plain, client):
        traces = OtlpTraces()
        service = replace(plain, traces=traces)
        with TestClient(create_app(service), headers=dict(client.headers)) as traced:
            given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            traced.get("/v1/files", headers={"traceparent": given, "x-request-id": "mine"})
        row, usage = job(1, JobStatus.RUNNING, 10, queued_at=NOW, started_at=NOW, traceparent=given)
        add(service, (row, usage))
        with service.database.write() as db:
            end(service, db, db.merge(row), JobStatus.SUCCEEDED, "done")
        traces.close()
    found = {span.name: span for span in spans}
    assert {"GET /v1/files", "job", "check files", "wait", "train"} == set(found)
    assert {span.trace_id.hex() for span in spans} == {"0af7651916cd43dd8448eb211c80319c"}
    said = {a.key: a.value for a in found["GET /v1/files"].attributes}
    assert said["feinschliff.request_id"].string_value == "mine"
    assert said["feinschliff.project"].string_value == "proj_default"
    assert "admin-key" not in str(spans)
    assert found["train"].parent_span_id == found["job"].span_id

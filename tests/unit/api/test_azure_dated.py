"""Azure's dated paths for files, jobs and models: where they differ from OpenAI's."""
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from feinschliff.app.file_check import check_next
from feinschliff.app.jobs import end, tell
from feinschliff.core.service import JobStatus, ProjectId
from feinschliff.store import jobs as rows
from feinschliff.store.tables import ModelRow
from in_process import application, training_lines

VERSION = {"api-version": "2024-10-21"}
JOBS = "/openai/fine_tuning/jobs"
LINES = training_lines(10)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def service_and_client(tmp_path_factory, tiny_model):
    with application(tmp_path_factory.mktemp("dated"), models={"tiny": tiny_model}) as (service, client):
        client.params = VERSION
        yield service, client


@pytest.fixture(scope="module")
def client(service_and_client):
    return service_and_client[1]


@pytest.fixture(scope="module")
def service(service_and_client):
    return service_and_client[0]


def upload(client):
    return client.post("/openai/files", files={"file": ("train.jsonl", LINES)}, data={"purpose": "fine-tune"})


@pytest.fixture(scope="module")
def file_id(service, client):
    """Of a training file that has been checked; before that, a job with it is refused."""
    answer = upload(client)
    file = answer.json()
    assert (answer.status_code, file["status"]) == (201, "pending")
    assert answer.headers["location"] == f"http://testserver/openai/files/{file['id']}?api-version=2024-10-21"
    refused = create(client, file["id"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalidPayload")
    assert "completed file import" in refused.json()["error"]["message"]
    assert check_next(service)
    assert client.get(f"/openai/files/{file['id']}").json()["status"] == "processed"
    return file["id"]


def create(client, file_id, **more):
    return client.post(JOBS, json={"model": "tiny", "training_file": file_id} | more)


def set_status(service, job_id, status):
    with service.database.write() as db:
        rows.job_of(db, job_id).status = status


@pytest.fixture
def job_id(client, file_id):
    return create(client, file_id).json()["id"]


def test_a_job_is_created_with_its_address_and_azures_extra_field(client, file_id):
    answer = create(client, file_id, trainingType="developerTier")
    assert answer.status_code == 201
    assert client.get(answer.headers["location"]).json()["id"] == answer.json()["id"]
    assert create(client, file_id, trainingType="slow").status_code == 400


@pytest.mark.parametrize(
    ("ours", "azures"),
    [("validating_files", "created"), ("queued", "pending"), ("running", "running"), ("paused", "paused"), ("failed", "failed")],
)
def test_states_have_azures_names(service, client, job_id, ours, azures):
    set_status(service, job_id, ours)
    assert client.get(f"{JOBS}/{job_id}").json()["status"] == azures
    assert client.get(JOBS).json()["data"][0]["status"] == azures


def test_pause_resume_cancel_and_delete(client, job_id):
    assert client.post(f"{JOBS}/{job_id}/pause").json()["status"] == "paused"
    assert client.post(f"{JOBS}/{job_id}/resume").json()["status"] == "created"
    early = client.delete(f"{JOBS}/{job_id}")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "conflict")
    assert client.post(f"{JOBS}/{job_id}/cancel").json()["status"] == "cancelled"
    assert client.delete(f"{JOBS}/{job_id}").status_code == 204
    gone = client.get(f"{JOBS}/{job_id}")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "notFound")
    assert gone.json()["error"]["innererror"] == {"code": "fine_tune_not_found"}
    assert job_id not in [job["id"] for job in client.get(JOBS).json()["data"]]


def test_a_deleted_job_is_made_anew_by_the_request_that_made_it(client, file_id):
    def once():
        body = {"model": "tiny", "training_file": file_id}
        return client.post(JOBS, json=body, headers={"Idempotency-Key": "once"}).json()["id"]

    first = once()
    assert once() == first
    client.post(f"{JOBS}/{first}/cancel")
    client.delete(f"{JOBS}/{first}")
    assert once() != first


def test_a_warning_is_one_in_azures_word(service, client, job_id):
    with service.database.write() as db:
        tell(service, db, rows.job_of(db, job_id), "w", "Two examples are too long", level="warn")
    assert client.get(f"{JOBS}/{job_id}/events").json()["data"][0]["level"] == "warning"
    assert client.get(f"/v1/fine_tuning/jobs/{job_id}/events").json()["data"][0]["level"] == "warn"


def test_each_dialect_shows_its_own_results_file(service, client, job_id):
    with service.database.write() as db:
        row = rows.job_of(db, job_id)
        row.result_files = ["file-openai", "file-azure"]
        end(service, db, row, JobStatus.SUCCEEDED, "done")
    assert client.get(f"{JOBS}/{job_id}").json()["result_files"] == ["file-azure"]
    assert client.get(f"/v1/fine_tuning/jobs/{job_id}").json()["result_files"] == ["file-openai"]


def test_a_model_is_what_openai_says_of_it_and_what_azure_does(service, client, job_id):
    with service.database.write() as db:
        project = ProjectId(rows.job_of(db, job_id).project_id)
        for name, base in (("ft:tiny:local::x", "tiny"), ("ft:gone:local::x", "gone")):
            db.add(ModelRow(name=name, project_id=project, job_id=job_id, base=base, folder="runs/x", created_at=5))
    models = {m["id"]: m for m in client.get("/openai/models").json()["data"]}
    tuned = models["ft:tiny:local::x"]
    assert (tuned["model"], tuned["fine_tune"], tuned["created"], tuned["created_at"]) == ("tiny", job_id, 5, 5)
    assert tuned["capabilities"]["chat_completion"]
    assert client.get("/openai/models/ft:tiny:local::x").json() == tuned
    assert (models["tiny"]["model"], models["tiny"]["lifecycle_status"]) == (None, "generally-available")
    assert models["all-minilm-l6-v2"]["capabilities"]["embeddings"]
    assert models["ft:gone:local::x"]["lifecycle_status"] == "deprecated"
    set_status(service, job_id, "succeeded")
    assert client.delete("/openai/models/ft:gone:local::x").json()["deleted"]


def test_uploads_and_files_are_azures_too(client):
    upload_id = client.post("/openai/uploads", json={"filename": "a.txt", "purpose": "user_data", "bytes": 3, "mime_type": "text/plain"}).json()["id"]
    part = client.post(f"/openai/uploads/{upload_id}/parts", files={"data": ("part", b"abc")}).json()
    file = client.post(f"/openai/uploads/{upload_id}/complete", json={"part_ids": [part["id"]]}).json()["file"]
    assert client.get(f"/openai/files/{file['id']}/content").content == b"abc"
    assert client.get("/openai/files", params={"purpose": "user_data"}).json()["data"][0]["status"] == "processed"
    assert client.delete(f"/openai/files/{file['id']}").json()["deleted"]


@pytest.mark.parametrize("path", ["/openai/files", JOBS, "/openai/models", "/openai/uploads/u/cancel"])
def test_a_version_is_needed(client, path):
    client.params = {}
    answer = client.request("POST" if "cancel" in path else "GET", path)
    client.params = VERSION
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "MissingApiVersionParameter")
    assert error.keys() == {"code", "message", "target", "details", "innererror"}


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [({"authorization": ""}, 401, "unauthorized"), ({"authorization": "", "api-key": "none-such"}, 401, "unauthorized")],
)
def test_errors_have_azures_codes(client, headers, status, code):
    answer = client.get("/openai/files", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert client.get("/openai/nothing").json()["error"]["code"] == "notFound"
    assert client.get("/openai/files", params={**VERSION, "limit": 0}).json()["error"]["target"] == "limit"


def test_a_file_is_imported_from_an_allowed_host_alone(tmp_path):
    (tmp_path / "train.jsonl").write_text(LINES, encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as source:
        threading.Thread(target=source.serve_forever, daemon=True).start()
        with application(tmp_path / "service", import_from=frozenset({"127.0.0.1"})) as (_, client):
            client.params = VERSION
            asked = {"filename": "train.jsonl", "purpose": "fine-tune", "content_url": f"http://127.0.0.1:{source.server_port}/train.jsonl"}
            answer = client.post("/openai/files/import", json=asked)
            assert (answer.status_code, answer.json()["status"]) == (201, "pending")
            file = client.get(answer.headers["location"]).json()
            assert client.get(f"/openai/files/{file['id']}/content").text == LINES
            gone = client.post("/openai/files/import", json=asked | {"content_url": asked["content_url"] + ".gz"})
            assert (gone.status_code, gone.json()["error"]["code"]) == (400, "fileImportFailed")
            refused = client.post("/openai/files/import", json=asked | {"content_url": "http://10.0.0.1/x"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        source.shutdown()

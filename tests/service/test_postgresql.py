"""The service on PostgreSQL: the way from a file to a deployed model, keys, a kill of everything, through a real server."""
import signal

import psycopg
import pytest
from postgresql import INITDB, WHY_NOT, running_cluster
from running import Server, children_of, wait_until
from test_files import upload
from test_jobs import LONG, ended, start, steps_of

pytestmark = pytest.mark.skipif(INITDB is None, reason=WHY_NOT)


@pytest.fixture(scope="module")
def database():
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny_model, database):
    server = Server(tmp_path_factory.mktemp("service"), "--model", f"tiny={tiny_model}", "--limit", "database_wait_s=2", FEINSCHLIFF_DATABASE=database.url).start()
    yield server
    server.stop()


def test_from_a_file_to_a_deployed_model(server, client):
    job = ended(client, start(client, metadata={"team": "a"}).id)
    assert job.status == "succeeded", job.error
    assert steps_of(client, job.id) == [1, 2, 3, 4, 5, 6]
    assert [j.id for j in client.fine_tuning.jobs.list(metadata={"team": "a"})] == [job.id]
    http = server.http()
    made = http.post("/v1/deployments", json={"name": "mine", "model": job.fine_tuned_model})
    assert made.is_success, made.text
    assert http.delete(f"/v1/models/{job.fine_tuned_model}").status_code == 409
    said = client.chat.completions.create(model="mine", messages=[{"role": "user", "content": "hello"}], max_completion_tokens=4)
    assert said.usage.completion_tokens > 0
    assert not (server.data / "feinschliff.sqlite").exists()


def test_a_kill_of_the_server_and_its_programs(server):
    client = server.client()
    job = start(client, n=40, hyperparameters=LONG | {"n_epochs": 4})
    wait_until(lambda: len(steps_of(client, job.id)) > 3)
    programs = children_of(server.process.pid)
    server.kill()
    for pid in programs:
        server.kill_process(pid)
    client = server.start().client()
    assert ended(client, job.id).status == "succeeded"
    assert steps_of(client, job.id) == list(range(1, 161))


def test_a_nul_is_the_clients_mistake(server):
    """PostgreSQL keeps no NUL in a text; SQLite does."""
    client = server.http()
    body = {"name": "a\0b", "model": "tiny"}
    assert client.post("/v1/deployments", json=body).status_code == 400
    for path in ("/v1/files/a%00b", "/v1/models/a%00b", "/v1/fine_tuning/jobs/a%00b", "/v1/deployments/a%00b"):
        assert client.get(path).status_code in (400, 404), path
    file = upload(server.client())
    job = {"model": "tiny", "training_file": file.id, "metadata": {"k": "v\0"}}
    assert client.post("/v1/fine_tuning/jobs", json=job).status_code == 400


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_without_the_database_requests_get_503_and_afterwards_all_goes_on(server, database, how):
    client, http = server.client(), server.http()
    job = start(client, n=40, hyperparameters=LONG | {"n_epochs": 5})
    wait_until(lambda: len(steps_of(client, job.id)) > 3)
    database.end(how)
    for method, path in (("GET", "/v1/files"), ("GET", f"/v1/fine_tuning/jobs/{job.id}"), ("POST", f"/v1/fine_tuning/jobs/{job.id}/pause")):
        answer = http.request(method, path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), answer.text
    assert http.get("/readyz").status_code == 503
    assert http.get("/healthz").status_code == 200
    database.start()
    assert wait_until(lambda: http.get("/readyz").status_code == 200)
    assert ended(client, job.id).status == "succeeded"
    assert steps_of(client, job.id) == list(range(1, 201))


def test_a_locked_table_is_waited_for_and_then_503(server, database):
    http = server.http()
    with psycopg.connect(database.url) as other:
        other.execute("LOCK TABLE deployments IN ACCESS EXCLUSIVE MODE")
        answer = http.post("/v1/deployments", json={"name": "locked", "model": "tiny"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), answer.text
        assert http.get("/v1/files").status_code == 200
    assert http.post("/v1/deployments", json={"name": "locked", "model": "tiny"}).is_success

"""Files that must stay in a region: marked when they are sent, and kept from everywhere else with all that is made of them."""
from dataclasses import replace

import pytest

from feinschliff.app.admission import at_start
from feinschliff.app.training import Training
from feinschliff.catalog.regions import load_regions
from feinschliff.catalog.workload import Counted
from feinschliff.core.errors import NotOffered
from feinschliff.core.service import JobStatus, ModelName
from feinschliff.providers.training_runs import TrainingRuns
from feinschliff.store.tables import JobRow, ModelRow
from in_process import application, training_lines

CLUSTER = '[regions.cluster]\nkind = "ray"\naddress = "head:6379"\n\n'
LINES = training_lines(12)


@pytest.fixture
def house(tmp_path, tiny_model):
    (tmp_path / "regions.toml").write_text(CLUSTER, encoding="utf-8")
    with application(tmp_path, config=tmp_path, models={"tiny": tiny_model}) as opened:
        yield opened


def sent(client, **fields):
    answer = client.post("/v1/files", files={"file": ("a.jsonl", LINES.encode())}, data={"purpose": "fine-tune", **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def create(client, file, model="tiny", **more):
    return client.post("/v1/fine_tuning/jobs", json={"model": model, "training_file": file["id"], **more})


def refused(answer):
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "not_offered"), answer.text
    return answer.json()["error"]["message"]


def test_a_marked_file_is_refused_elsewhere_with_where_it_may_go(house):
    _, client = house
    file = sent(client, stays_in="local")
    assert client.get(f"/v1/files/{file['id']}").json()["stays_in"] == ["local"]
    said = refused(create(client, file, region="cluster"))
    assert said == f"What is in the file {file['id']} must stay in local; cluster is elsewhere. Run the job in local."
    assert create(client, file).status_code == 200
    free = sent(client)
    assert "stays_in" not in free
    assert create(client, free, region="cluster").status_code == 200


def test_a_validation_file_is_data_too(house):
    _, client = house
    held = sent(client, stays_in="local")
    assert held["id"] in refused(create(client, sent(client), validation_file=held["id"], region="cluster"))


def test_a_list_of_places_may_be_sent_as_clients_send_lists(house):
    _, client = house
    file = sent(client, **{"stays_in[]": ["Sweden Central", "cluster"]})
    assert file["stays_in"] == ["Sweden Central", "cluster"]
    assert create(client, file, region="cluster").status_code == 200
    assert "must stay in Sweden Central, cluster; local is elsewhere" in refused(create(client, file))


def test_a_place_that_nobody_knows_is_refused_at_once(house):
    _, client = house
    answer = client.post("/v1/files", files={"file": ("a.jsonl", LINES.encode())}, data={"purpose": "fine-tune", "stays_in": "locla"})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "stays_in")
    assert "'locla' is no region" in error["message"]
    assert "Regions: local, cluster" in error["message"]
    body = {"filename": "a.jsonl", "purpose": "fine-tune", "bytes": 9, "mime_type": "text/jsonl", "stays_in": ["locla"]}
    assert client.post("/v1/uploads", json=body).status_code == 400


def test_a_file_in_parts_keeps_its_mark(house):
    _, client = house
    body = {"filename": "a.jsonl", "purpose": "fine-tune", "bytes": len(LINES), "mime_type": "text/jsonl", "stays_in": ["local"]}
    upload = client.post("/v1/uploads", json=body).json()["id"]
    part = client.post(f"/v1/uploads/{upload}/parts", files={"data": ("p", LINES.encode())}).json()["id"]
    done = client.post(f"/v1/uploads/{upload}/complete", json={"part_ids": [part]}).json()
    assert done["file"]["stays_in"] == ["local"]


def test_what_a_tuned_model_has_learnt_stays_with_its_data(house):
    service, client = house
    marked = sent(client, stays_in="local")
    parent = create(client, marked).json()["id"]
    with service.database.write() as db:
        row = db.query(JobRow).filter_by(id=parent).one()
        db.add(ModelRow(name="ft:tiny:local::1", project_id=row.project_id, job_id=parent, base=ModelName("tiny"), folder="runs/x", created_at=1))
    client.delete(f"/v1/files/{marked['id']}")
    assert marked["id"] in refused(create(client, sent(client), "ft:tiny:local::1", region="cluster"))
    assert create(client, sent(client), "ft:tiny:local::1").status_code == 200


def keeping_nothing(service, folder):
    """The service once its cluster promises nothing any more."""
    (folder / "regions.toml").write_text(CLUSTER + "data_residency = false\n", encoding="utf-8")
    return replace(service, market=replace(service.market, regions=load_regions(folder / "regions.toml")))


def test_a_region_that_keeps_nothing_any_more_stops_a_waiting_job(house, tmp_path):
    service, client = house
    file = sent(client, stays_in="cluster")
    job = create(client, file, region="cluster").json()["id"]
    counted = Counted(n_examples=12, tokens=100, trained=50, longest=10)
    with service.database.read() as db, pytest.raises(NotOffered, match="does not promise that"):
        at_start(keeping_nothing(service, tmp_path), db, db.query(JobRow).filter_by(id=job).one(), counted)


def test_a_region_that_keeps_nothing_any_more_is_sent_no_job_that_had_begun(house, tmp_path):
    service, client = house
    job = create(client, sent(client, stays_in="cluster"), region="cluster").json()["id"]
    with service.database.write() as db:
        row = db.query(JobRow).filter_by(id=job).one()
        row.status, row.started_at = JobStatus.RUNNING, 1
    runs = TrainingRuns(service.runs)
    Training(keeping_nothing(service, tmp_path), runs).step()
    assert not runs.known()
    told = [event["message"] for event in client.get(f"/v1/fine_tuning/jobs/{job}/events").json()["data"]]
    assert any("waits for its region" in message and "does not promise that" in message for message in told)

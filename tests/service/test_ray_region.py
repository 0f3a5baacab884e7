"""Jobs of the service on a Ray cluster of this machine: real ones, with workers and the cluster itself killed."""
import psutil
import pytest
from running import Server, wait_until
from test_files import training_lines

from ray_cluster import free_port, ray_cluster

pytest.importorskip("ray", reason="needs the extra: pip install 'feinschliff[ray]'")
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

REGIONS = """
[regions.cluster]
kind = "ray"
address = "127.0.0.1:{port}"
cpus = 0.5
"""


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def server(tmp_path, tiny_model, port):
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "regions.toml").write_text(REGIONS.format(port=port), encoding="utf-8")
    server = Server(tmp_path, "--model", f"tiny={tiny_model}", FEINSCHLIFF_CONFIG=str(tmp_path / "settings")).start()
    yield server
    server.stop()


def test_a_job_waits_for_its_cluster_and_ends_as_if_nothing_had_died(server, port, tmp_path_factory):
    client = server.client()
    file = client.files.create(file=("train.jsonl", training_lines(12)), purpose="fine-tune").id
    chosen = {"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 20, "batch_size": 2}}}}
    there = client.fine_tuning.jobs.create(model="tiny", training_file=file, seed=3, extra_body={"region": "cluster"}, **chosen).id
    events = lambda: [e.message for e in client.fine_tuning.jobs.list_events(there, limit=100)]  # noqa: E731
    wait_until(lambda: any("waits for its region" in e and "does not answer" in e for e in events()), seconds=240)
    with ray_cluster(tmp_path_factory.mktemp("ray"), port):
        run = server.data / "runs" / there
        wait_until(lambda: (run / "events.jsonl").exists() and (run / "events.jsonl").read_text().count('"step"') >= 10, seconds=240)
        (program,) = [p for p in psutil.process_iter(["cmdline"]) if {"feinschliff.train", str(run)} <= set(p.info["cmdline"] or ())]
        program.kill()  # on the cluster, wherever its parent is
        wait_until(lambda: client.fine_tuning.jobs.retrieve(there).status in ("succeeded", "failed"), seconds=240)
        assert client.fine_tuning.jobs.retrieve(there).status == "succeeded", events()
        here = client.fine_tuning.jobs.create(model="tiny", training_file=file, seed=3, **chosen).id
        wait_until(lambda: client.fine_tuning.jobs.retrieve(here).status == "succeeded", seconds=240)
        weights = [(server.data / "runs" / job / "model" / "adapter_model.safetensors").read_bytes() for job in (there, here)]
        assert weights[0] == weights[1]

"""Jobs of the service on a Ray cluster of this machine: real ones, with workers and the cluster itself killed."""
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from running import Server, wait_until
from test_files import training_lines

pytest.importorskip("ray", reason="needs the extra: pip install 'feinschliff[ray]'")
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

PORT = 6412
REGIONS = f"""
[regions.cluster]
kind = "ray"
address = "127.0.0.1:{PORT}"
cpus = 0.5
"""


def start_cluster(folder: Path) -> "subprocess.Popen[bytes]":
    folder.mkdir(parents=True, exist_ok=True)
    command = ["start", "--head", f"--port={PORT}", "--include-dashboard=false", "--num-cpus=2", "--disable-usage-stats", f"--temp-dir={folder}", "--block"]
    log = folder / "head.log"
    with log.open("w", encoding="utf-8") as out:
        head = subprocess.Popen([str(Path(sys.executable).parent / "ray"), *command], stdout=out, stderr=out, start_new_session=True)
    wait_until(lambda: "Ray runtime started" in log.read_text(encoding="utf-8"), seconds=240)
    return head


def end_cluster(head: "subprocess.Popen[bytes]") -> None:
    os.killpg(head.pid, signal.SIGTERM)
    head.wait(60)


@pytest.fixture
def server(tmp_path, tiny_model):
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "regions.toml").write_text(REGIONS, encoding="utf-8")
    server = Server(tmp_path, "--model", f"tiny={tiny_model}", FEINSCHLIFF_CONFIG=str(tmp_path / "settings")).start()
    yield server
    server.stop()


def test_a_job_waits_for_its_cluster_and_ends_as_if_nothing_had_died(server, tmp_path_factory):
    client = server.client()
    file = client.files.create(file=("train.jsonl", training_lines(12)), purpose="fine-tune").id
    chosen = {"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 20, "batch_size": 2}}}}
    there = client.fine_tuning.jobs.create(model="tiny", training_file=file, seed=3, extra_body={"region": "cluster"}, **chosen).id
    events = lambda: [e.message for e in client.fine_tuning.jobs.list_events(there, limit=100)]  # noqa: E731
    wait_until(lambda: any("waits for its region" in e and "does not answer" in e for e in events()), seconds=240)
    head = start_cluster(tmp_path_factory.mktemp("ray"))
    try:
        run = server.data / "runs" / there
        wait_until(lambda: (run / "events.jsonl").exists() and (run / "events.jsonl").read_text().count('"step"') >= 10, seconds=240)
        for process in Path("/proc").iterdir():  # the program on the cluster, wherever its parent is
            if process.name.isdigit() and f"feinschliff.train\0{run}".encode() in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
        wait_until(lambda: client.fine_tuning.jobs.retrieve(there).status in ("succeeded", "failed"), seconds=240)
        assert client.fine_tuning.jobs.retrieve(there).status == "succeeded", events()
        here = client.fine_tuning.jobs.create(model="tiny", training_file=file, seed=3, **chosen).id
        wait_until(lambda: client.fine_tuning.jobs.retrieve(here).status == "succeeded", seconds=240)
        weights = [(server.data / "runs" / job / "model" / "adapter_model.safetensors").read_bytes() for job in (there, here)]
        assert weights[0] == weights[1]
    finally:
        end_cluster(head)

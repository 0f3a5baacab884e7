"""Every place where programs run keeps the same promises: this machine, and a Ray cluster (a real one, of this machine alone)."""
import os
import signal
import time
from pathlib import Path

import pytest

from feinschliff.compute import process
from feinschliff.compute.ray import OnRay
from ray_cluster import free_port, ray_cluster

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
events, go_on = Path(sys.argv[1]), Path(sys.argv[2])
first = len(events.read_text().splitlines()) if events.exists() else 0
def stop(*_):
    sys.stderr.write("asked to stop\\n")
    raise SystemExit(9)
signal.signal(signal.SIGTERM, stop)
for step in range(first, 3):
    with events.open("a") as file:
        file.write(f"{step} {os.environ.get('RANK')} {os.getpid()}\\n")
    while step == 1 and not go_on.exists():
        time.sleep(0.05)
raise SystemExit(int(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The address of a Ray cluster of one machine that lives as long as the module's tests."""
    pytest.importorskip("ray", reason="needs the extra: pip install 'feinschliff[ray]'")
    with ray_cluster(tmp_path_factory.mktemp("ray"), free_port()) as address:
        yield address


@pytest.fixture(params=["process", pytest.param("ray", marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def place(request):
    return process.Here() if request.param == "process" else OnRay(request.getfixturevalue("cluster"), cpus=0.5)


@pytest.fixture
def started(place, tmp_path, monkeypatch):
    """Starts the program under one name, and keeps what stands for it."""
    (tmp_path / "contract_program.py").write_text(PROGRAM, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    children = []

    def start(code: int = 0, name: str = tmp_path.name):
        arguments = [str(tmp_path / "events"), str(tmp_path / "go-on"), str(code)]
        children.append(place.start(name, "contract_program", arguments, tmp_path / "log.txt"))
        return children[-1]

    yield start
    for child in children:
        process.stop(child)


def wait_until(reached, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "not reached"
        time.sleep(0.05)


def events(folder: Path) -> list[list[str]]:
    file = folder / "events"
    return [line.split() for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def test_its_events_are_read_while_it_runs_and_its_code_is_told(started, tmp_path):
    child = started(code=7)
    wait_until(lambda: len(events(tmp_path)) == 2)
    assert child.poll() is None
    (tmp_path / "go-on").touch()
    assert child.wait(120) == 7
    assert [step for step, *_ in events(tmp_path)] == ["0", "1", "2"]


def test_asked_to_stop_it_stops(started, tmp_path):
    child = started()
    wait_until(lambda: len(events(tmp_path)) == 2)
    process.stop(child, grace_s=60)
    assert child.returncode not in (0, None)
    assert "asked to stop" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_a_killed_program_is_noticed_and_the_same_name_goes_on(started, tmp_path):
    child = started()
    wait_until(lambda: len(events(tmp_path)) == 2)
    os.kill(int(events(tmp_path)[-1][2]), signal.SIGKILL)
    assert child.wait(120) != 0
    (tmp_path / "go-on").touch()
    assert started().wait(120) == 0
    assert [step for step, *_ in events(tmp_path)] == ["0", "1", "2"]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_what_stands_for_a_program_of_a_cluster_may_be_killed(cluster, tmp_path, monkeypatch):
    """The program runs on, and another start finds it."""
    (tmp_path / "contract_program.py").write_text(PROGRAM, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    arguments = [str(tmp_path / "events"), str(tmp_path / "go-on"), "5"]
    place = OnRay(cluster, cpus=0.5)
    child = place.start("same", "contract_program", arguments, tmp_path / "log.txt")
    wait_until(lambda: len(events(tmp_path)) == 2)
    child.kill()
    child.wait()
    again = place.start("same", "contract_program", arguments, tmp_path / "log.txt")
    (tmp_path / "go-on").touch()
    assert again.wait(120) == 5
    assert [step for step, *_ in events(tmp_path)] == ["0", "1", "2"]
    assert len({pid for *_, pid in events(tmp_path)}) == 1


@pytest.mark.long
@pytest.mark.timeout(600)
def test_ranks_are_told_who_they_are(cluster, tmp_path, monkeypatch):
    (tmp_path / "rank_program.py").write_text(
        "import os, sys\nopen(sys.argv[1] + os.environ['RANK'], 'w').write(os.environ['WORLD_SIZE'] + os.environ['MASTER_PORT'])", encoding="utf-8"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    child = OnRay(cluster, cpus=0.5, workers=2).start("two", "rank_program", [str(tmp_path / "rank-")], tmp_path / "log.txt")
    assert child.wait(120) == 0
    first, second = [(tmp_path / f"rank-{n}").read_text(encoding="utf-8") for n in (0, 1)]
    assert first == second
    assert first.startswith("2")


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path):
    pytest.importorskip("ray", reason="needs the extra: pip install 'feinschliff[ray]'")
    child = OnRay(f"127.0.0.1:{free_port()}").start("a", "contract_program", [], tmp_path / "log.txt")
    assert child.wait(120) == process.UNREACHABLE
    assert "does not answer" in process.last_lines(tmp_path / "log.txt")

import resource

import pytest

from feinschliff.catalog.available import all_bytes, available_bytes

GB = 1 << 30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 8 GB free, as /proc and /sys tell it, and no limits on the process."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    write(tmp_path, "proc/meminfo", f"MemTotal:  {16 * GB // KB} kB\nMemAvailable:   {8 * GB // KB} kB\n")
    write(tmp_path, "proc/self/status", f"VmSize:\t {3 * GB // KB} kB\nVmData:\t {2 * GB // KB} kB\n")
    return tmp_path


KB = 1024


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


def test_what_the_machine_has_free(machine):
    assert available_bytes(machine) == 8 * GB


def test_a_container_sees_its_group_as_the_root(machine):
    write(machine, "sys/fs/cgroup/memory.max", f"{4 * GB}\n")
    write(machine, "sys/fs/cgroup/memory.current", f"{GB}\n")
    assert available_bytes(machine) == 3 * GB


def test_the_group_that_the_process_is_listed_in(machine):
    write(machine, "proc/self/cgroup", "1:cpu:/a\n0::/user.slice/job\n")
    write(machine, "sys/fs/cgroup/user.slice/job/memory.max", f"{2 * GB}")
    write(machine, "sys/fs/cgroup/user.slice/job/memory.current", f"{GB}")
    assert available_bytes(machine) == GB


def test_the_older_kind_of_groups(machine):
    write(machine, "proc/self/cgroup", "4:memory:/job\n0::/\n")
    write(machine, "sys/fs/cgroup/memory/job/memory.limit_in_bytes", f"{5 * GB}")
    write(machine, "sys/fs/cgroup/memory/job/memory.usage_in_bytes", f"{4 * GB}")
    assert available_bytes(machine) == GB


def test_a_group_without_limit_or_beyond_it(machine):
    write(machine, "sys/fs/cgroup/memory.max", "max\n")
    write(machine, "sys/fs/cgroup/memory.current", f"{GB}\n")
    assert available_bytes(machine) == 8 * GB
    write(machine, "sys/fs/cgroup/memory.max", "5\n")
    assert available_bytes(machine) == 0


@pytest.mark.parametrize(("limit", "taken"), [(resource.RLIMIT_AS, 3), (resource.RLIMIT_DATA, 2)])
def test_limits_of_the_process(machine, monkeypatch, limit, taken):
    monkeypatch.setattr(
        resource, "getrlimit", lambda asked: (4 * GB if asked == limit else resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    )
    assert available_bytes(machine) == (4 - taken) * GB


def test_a_machine_that_tells_nothing_gives_half_of_its_memory(tmp_path):
    assert 0 < available_bytes(tmp_path) < 1 << 50


def test_this_machine():
    assert 10_000_000 < available_bytes() < 1 << 50


def test_what_a_process_alone_could_take(machine, monkeypatch):
    assert all_bytes(machine) == 16 * GB
    write(machine, "sys/fs/cgroup/memory.max", f"{4 * GB}\n")
    write(machine, "sys/fs/cgroup/memory.current", f"{3 * GB}\n")
    assert all_bytes(machine) == 4 * GB
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2 * GB, resource.RLIM_INFINITY))
    assert all_bytes(machine) == 2 * GB

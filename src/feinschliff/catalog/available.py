"""How much memory this process may still take: what the machine has free, its control group allows, and its own limits."""
import contextlib
import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path

_M_MMAP_THRESHOLD = -3  # malloc.h; left alone, glibc raises it to 32 MB as blocks are freed
OWN_LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
_GROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def available_bytes(root: Path = Path("/")) -> int:
    """The smallest of all that can be read; `root` stands before /proc and /sys.

    Where there is no /proc/meminfo (macOS), half of the machine's memory. What this process has freed is given back first.
    Ranks that torchrun started on this machine share it.
    """
    give_back()
    shared = min([*_machine(root), *(allowed - used for allowed, used in _control_groups(root))]) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(0, min([shared, *_own_limits(root)]))


def all_bytes(root: Path = Path("/")) -> int:
    """What a process could take if it were alone: the machine's memory, or what its control group or own limits allow."""
    told = _field(root / "proc/meminfo", "MemTotal:")
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if told is None else told
    own = [soft for soft, _ in map(resource.getrlimit, OWN_LIMITS) if soft != resource.RLIM_INFINITY]
    return min([machine, *own, *(allowed for allowed, _ in _control_groups(root))])


def give_back() -> None:
    """Let glibc return freed memory to the machine: loading a model leaves much of it in the heap."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def map_large_blocks() -> None:
    """Let glibc map blocks from 2 MB each by itself, and unmap them when freed: fewer holes, some more page faults."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2 << 20)


def _machine(root: Path) -> Iterator[int]:
    told = _field(root / "proc/meminfo", "MemAvailable:")
    yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 if told is None else told


def _control_groups(root: Path) -> Iterator[tuple[int, int]]:
    """(allowed, used) of the group that a container sees as its own root (cgroup v2, v1), and of the one this process is listed in."""
    base = root / "sys/fs/cgroup"
    folders = [(base, limit, usage) for limit, usage in _GROUPS]
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        own = path.lstrip("/")
        if not controllers:
            folders.append((base / own, "memory.max", "memory.current"))
        elif controllers == "memory":
            folders.append((base / "memory" / own, "memory.limit_in_bytes", "memory.usage_in_bytes"))
    for folder, limit, usage in folders:
        allowed, used = _number(folder / limit), _number(folder / usage)
        if allowed is not None and used is not None:
            yield allowed, used


def _own_limits(root: Path) -> Iterator[int]:
    """RLIMIT_AS and RLIMIT_DATA (`ulimit -v`, `ulimit -d`), less what is taken of them."""
    for limit, field in ((resource.RLIMIT_AS, "VmSize:"), (resource.RLIMIT_DATA, "VmData:")):
        soft, _ = resource.getrlimit(limit)
        used = _field(root / "proc/self/status", field)
        if soft != resource.RLIM_INFINITY and used is not None:
            yield soft - used


def _field(path: Path, name: str) -> int | None:
    """`name` of a table in kB, in bytes."""
    return next((int(line.split()[1]) * 1024 for line in _lines(path) if line.startswith(name)), None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return None

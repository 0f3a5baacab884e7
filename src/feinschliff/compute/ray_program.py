"""`python -m feinschliff.compute.ray_program PLACED`: run a program on a Ray cluster, and stand for it here. Exit: as the program's.

Each rank is a detached actor with a name, so that another start finds what runs already. The program is the actor's child and dies with
it. A process of its own, because Ray ends the process that it is loaded in when its cluster goes.
"""
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from feinschliff.compute import process
from feinschliff.compute.ray import Placed

NAMESPACE = "feinschliff"
LOOK_S = 1.0
STOP_S = 10.0
NOT_SHARED = 3


class Rank:
    """An actor: one process of the program, on one of the cluster's machines."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None

    def address(self) -> tuple[str, int]:
        """Where the other ranks find this one."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def begin(self, module: str, arguments: Sequence[str], log: str, environment: dict[str, str]) -> bool:
        """Once. False where this machine does not see the run's folder."""
        if self._child is None:
            if not Path(log).parent.is_dir():
                return False
            os.environ.update(environment)
            self._child = process.start(module, arguments, Path(log), dies_with_parent=True)
        return True

    def code(self) -> int | None:
        """How it ended; None while it runs."""
        return None if self._child is None else self._child.poll()

    def stop(self) -> None:
        if self._child is not None:
            process.stop(self._child, grace_s=STOP_S)


class Stopped(Exception):
    pass


def _asked_to_stop(*_: object) -> None:
    raise Stopped


def main(placed: Placed) -> int:
    try:
        _knock(placed.address)
        ray.init(address=placed.address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        sys.stderr.write(f"The Ray cluster at {placed.address} does not answer: {str(error).splitlines()[0]}\n")
        return process.UNREACHABLE
    signal.signal(signal.SIGTERM, _asked_to_stop)
    ranks: list[ActorHandle[Rank]] = []
    group: PlacementGroup | None = None
    try:
        group = _group(placed)
        ranks = [_rank(placed, number, group) for number in range(placed.workers)]
        return _followed(placed, ranks)
    except Stopped:
        _quietly(lambda: ray.get([rank.stop.remote() for rank in ranks], timeout=STOP_S + 5))
        return 128 + signal.SIGTERM
    except RayActorError as error:
        sys.stderr.write(f"A worker of the Ray cluster died: {str(error).splitlines()[0]}\n")
        return 128 + signal.SIGKILL
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for rank in ranks:
            _quietly(lambda rank=rank: ray.kill(rank))
        if group is not None:
            _quietly(lambda: remove_placement_group(group))


def _knock(address: str) -> None:
    """Ray itself looks for minutes for a cluster that is not there. Raises OSError."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5):
        pass


def _group(placed: Placed) -> PlacementGroup | None:
    """All ranks or none: half of them would wait for the others and hold what those need."""
    if placed.workers == 1:
        return None
    return placement_group([_resources(placed)] * placed.workers, strategy="PACK")


def _resources(placed: Placed) -> dict[str, float]:
    return {"CPU": placed.cpus} | ({"GPU": placed.gpus} if placed.gpus else {})


def _rank(placed: Placed, number: int, group: PlacementGroup | None) -> ActorHandle[Rank]:
    where = {} if group is None else {"scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number)}
    options = ray.remote(Rank).options(
        name=f"{placed.name}-{number}", lifetime="detached", get_if_exists=True, num_cpus=placed.cpus, num_gpus=placed.gpus, max_restarts=0, **where
    )
    return cast("ActorHandle[Rank]", options.remote())


def _followed(placed: Placed, ranks: Sequence[ActorHandle[Rank]]) -> int:
    """Until all ranks have ended, or one did not end well: the others wait for it then, in vain."""
    host, port = ray.get(ranks[0].address.remote())
    for number, rank in enumerate(ranks):
        log = str(placed.log) if number == 0 else f"{placed.log}.{number}"
        if not ray.get(rank.begin.remote(placed.module, placed.arguments, log, _environment(placed, number, host, port))):
            sys.stderr.write(f"A worker of {placed.address} does not see {placed.log.parent}: it must lie on a file system that all machines share.\n")
            return NOT_SHARED
    while True:
        codes = ray.get([rank.code.remote() for rank in ranks])
        ended = [code for code in codes if code is not None]
        if bad := [code for code in ended if code != 0]:
            return bad[0] if bad[0] > 0 else 128 - bad[0]
        if len(ended) == len(ranks):
            return 0
        time.sleep(LOOK_S)


def _environment(placed: Placed, number: int, host: str, port: int) -> dict[str, str]:
    """torchrun's variables where there are several ranks; and the way to our sources, where that is by PYTHONPATH."""
    paths = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    if placed.workers == 1:
        return paths
    return paths | {
        "RANK": str(number), "WORLD_SIZE": str(placed.workers), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
    }  # fmt: skip


def _quietly(end: Callable[[], object]) -> None:
    """What is gone already need not be ended."""
    with contextlib.suppress(RayActorError, GetTimeoutError, ConnectionError, ValueError, RuntimeError):
        end()


if __name__ == "__main__":
    sys.exit(main(Placed.model_validate_json(sys.argv[1])))

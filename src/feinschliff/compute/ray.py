"""A Ray cluster as a place where our programs run. Ray itself is loaded by `compute.ray_program` alone, in a process of its own."""
import subprocess
from collections.abc import Sequence
from pathlib import Path

from feinschliff.compute import process
from feinschliff.core.chat import Wire

PROGRAM = "feinschliff.compute.ray_program"


class Placed(Wire):
    """What `ray_program` is told: which program, under which name, with what. `name` is the cluster's: the same name is the same program."""

    address: str
    name: str
    module: str
    arguments: tuple[str, ...]
    log: Path
    cpus: float = 1.0
    gpus: float = 0.0
    workers: int = 1


class OnRay:
    """Satisfies core.ports.Compute. The process that it starts here stands for the program there, and can be killed and started again."""

    def __init__(self, address: str, *, cpus: float = 1.0, gpus: float = 0.0, workers: int = 1) -> None:
        self._address, self._cpus, self._gpus, self._workers = address, cpus, gpus, workers

    def start(self, name: str, module: str, arguments: Sequence[str], log: Path) -> "subprocess.Popen[str]":
        placed = Placed(
            address=self._address, name=name, module=module, arguments=tuple(arguments), log=log.resolve(), cpus=self._cpus, gpus=self._gpus,
            workers=self._workers,
        )  # fmt: skip
        return process.start(PROGRAM, [placed.model_dump_json()], log)

"""Where a run computes: the CPU, or one CUDA device a rank. Chosen once and handed in; whatever differs between them is here."""
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.utils.deterministic
from torch import Tensor
from typing_extensions import override

from feinschliff.catalog.available import available_bytes
from feinschliff.core.errors import TrainingFailed
from feinschliff.core.jobs import DeviceChoice
from feinschliff.nn.attention import Attend, TreeAttend
from feinschliff.nn.attention_flex import FlexAttend, compiled
from feinschliff.nn.blocks import CPU
from feinschliff.nn.tree import Packed
from feinschliff.train.live_bytes import AllocatedBytes, LiveBytes, Meter
from feinschliff.train.resident import peak_bytes, resident_bytes

RandomStates = Mapping[str, Tensor]  # by kind of device


@dataclass(frozen=True, slots=True)
class Effort:
    """How large the products are that a device's rate is measured with."""

    rows: int  # tokens in a product; about what a micro-batch has
    flops: float  # at most in one round over all shapes


class Device(Protocol):
    """What the engine asks of the device it computes on."""

    @property
    def where(self) -> torch.device: ...

    @property
    def name(self) -> str:
        """As events tell it."""
        ...

    @property
    def backends(self) -> str:
        """Of torch's process group, for numbers on the CPU and tensors on the device."""
        ...

    @property
    def effort(self) -> Effort: ...

    def attend(self, packed: Packed) -> Attend:
        """Attention for one packed tree, which is still on the CPU."""
        ...

    def wait(self) -> None:
        """Until all that was started is done."""
        ...

    def seconds(self, work: Callable[[], object]) -> float:
        """What `work` takes on the device."""
        ...

    def available_bytes(self) -> int:
        """Memory that this process may still take."""
        ...

    def held_bytes(self) -> int:
        """Memory that this process has now."""
        ...

    def peak_bytes(self) -> int:
        """The most memory that this process has had."""
        ...

    def meter(self) -> Meter:
        """Watches a computation's memory."""
        ...

    def random_states(self) -> dict[str, Tensor]:
        """Of all generators that a run may draw from."""
        ...

    def set_random_states(self, states: RandomStates) -> None:
        """Those of a state made on another kind of device are set as far as they are there."""
        ...


@dataclass(frozen=True)
class Cpu(Device):
    @property
    @override
    def where(self) -> torch.device:
        return CPU

    @property
    @override
    def name(self) -> str:
        return "cpu"

    @property
    @override
    def backends(self) -> str:
        return "gloo"

    @property
    @override
    def effort(self) -> Effort:
        return Effort(rows=512, flops=8e9)  # 20 to 80 ms a round on two cores

    @override
    def attend(self, packed: Packed) -> Attend:
        return TreeAttend(packed)

    @override
    def wait(self) -> None:
        """Operators return when they are done."""

    @override
    def seconds(self, work: Callable[[], object]) -> float:
        t0 = time.perf_counter()
        work()
        return time.perf_counter() - t0

    @override
    def available_bytes(self) -> int:
        return available_bytes()

    @override
    def held_bytes(self) -> int:
        return resident_bytes()

    @override
    def peak_bytes(self) -> int:
        return peak_bytes()

    @override
    def meter(self) -> Meter:
        return LiveBytes()

    @override
    def random_states(self) -> dict[str, Tensor]:
        return {"cpu": torch.get_rng_state()}

    @override
    def set_random_states(self, states: RandomStates) -> None:
        torch.set_rng_state(states["cpu"])


@dataclass(frozen=True)
class Cuda(Device):
    """One CUDA device of this machine. Not yet run on a GPU: see docs/training-engine.md."""

    index: int

    @classmethod
    def ready(cls, index: int) -> "Cuda":
        """Made this process's device, with sums in float32 and in the same order every time."""
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
        torch.cuda.set_device(index)
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Nothing is read before it is written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # pyrefly: ignore[missing-attribute] – torch makes it at run time
        return cls(index)

    @property
    @override
    def where(self) -> torch.device:
        return torch.device("cuda", self.index)

    @property
    @override
    def name(self) -> str:
        return torch.cuda.get_device_name(self.where)

    @property
    @override
    def backends(self) -> str:
        return "cpu:gloo,cuda:nccl"

    @property
    @override
    def effort(self) -> Effort:
        return Effort(rows=8192, flops=2e13)  # 20 ms a round at a PFLOP/s; fp32 without tensor cores is cut by `machine.LIMIT_S`

    @override
    def attend(self, packed: Packed) -> Attend:
        return FlexAttend(packed, compiled())

    @override
    def wait(self) -> None:
        torch.cuda.synchronize(self.where)

    @override
    def seconds(self, work: Callable[[], object]) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000

    @override
    def available_bytes(self) -> int:
        """What the driver has free, and what torch's allocator keeps without using it."""
        free, _ = torch.cuda.mem_get_info(self.where)
        return free + torch.cuda.memory_reserved(self.where) - torch.cuda.memory_allocated(self.where)

    @override
    def held_bytes(self) -> int:
        return torch.cuda.memory_reserved(self.where)

    @override
    def peak_bytes(self) -> int:
        """Of tensors, since the memory estimate at the start."""
        return torch.cuda.max_memory_allocated(self.where)

    @override
    def meter(self) -> Meter:
        return AllocatedBytes(self.where)

    @override
    def random_states(self) -> dict[str, Tensor]:
        return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state(self.where)}

    @override
    def set_random_states(self, states: RandomStates) -> None:
        torch.set_rng_state(states["cpu"])
        if "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self.where)


ON_CPU = Cpu()


def chosen(wanted: DeviceChoice) -> Device:
    """The device of this process; of several that torchrun started on this machine, each takes its own. Raises TrainingFailed."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "cpu" or (wanted == "auto" and not there):
        return ON_CPU
    if not there:
        raise TrainingFailed(
            'device is "cuda", and torch sees no CUDA device on this machine.',
            hint='Check the driver with nvidia-smi, and that torch is a CUDA build (torch.version.cuda), or take device "cpu".',
        )
    index = int(os.environ.get("LOCAL_RANK", "0"))
    if index >= there:
        raise TrainingFailed(
            f"Rank {index} of this machine has no CUDA device of its own: there are {there}.",
            hint=f'Start {there} processes here (torchrun --nproc-per-node {there}), or take device "cpu".',
        )
    return Cuda.ready(index)

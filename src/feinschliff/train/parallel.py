"""One run on several devices: processes started by torchrun that divide every optimizer step among them.

Every process ("rank") has the whole spec and data, computes its share of a step and normalises by the trained weight of the
whole step; gradients are then summed, so each rank makes the update that one process would make. Only the first rank writes.
"""
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Protocol

import torch
from torch import Tensor
from torch import distributed as dist
from typing_extensions import override

from feinschliff.core.chat import Rendered
from feinschliff.core.errors import TrainingFailed
from feinschliff.core.jobs import Sharding
from feinschliff.data.files import locked
from feinschliff.nn.tree import Packed
from feinschliff.train.device import ON_CPU, Device
from feinschliff.train.sharding import idle
from feinschliff.train.shares import shares

# The first rank may have to wait for a whole earlier run. That a rank died is seen by its closed connection, not by this.
_PATIENCE = timedelta(days=7)


class RankLost(TrainingFailed):
    """Another process of the same run has ended, or torchrun asked this one to end because of that."""

    code = "rank_lost"

    def __init__(self, rank: int, why: str) -> None:
        super().__init__(
            f"Another process of this run has ended, so rank {rank} ends too ({why}).",
            hint="Its own output says why. The same torchrun command goes on from the last saved step.",
        )


class Ranks(Protocol):
    """The processes of one run, as one of them sees them. Every rank must make the same calls in the same order."""

    @property
    def first(self) -> bool:
        """Whether this one writes events, states and models."""
        ...

    def share(self, examples: Sequence[Rendered]) -> list[Rendered]:
        """The part of a step's `examples` that this rank computes; it may be empty."""
        ...

    def total(self, *numbers: float) -> tuple[float, ...]:
        """Each of `numbers` summed over ranks."""
        ...

    def passes(self, trees: Sequence[Packed]) -> list[Packed]:
        """The trees to run, of a step's or a validation's: those that train something; with idle ones where ranks must keep pace."""
        ...

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace the gradients of `parameters` by their sums over ranks."""
        ...

    def agreed(self, choice: str) -> str:
        """The first rank's `choice`."""
        ...


@dataclass(frozen=True, slots=True)
class Alone(Ranks):
    """A run in one process."""

    @property
    @override
    def first(self) -> bool:
        return True

    @override
    def share(self, examples: Sequence[Rendered]) -> list[Rendered]:
        return list(examples)

    @override
    def total(self, *numbers: float) -> tuple[float, ...]:
        return numbers

    @override
    def passes(self, trees: Sequence[Packed]) -> list[Packed]:
        return [t for t in trees if len(t.rows_R)]

    @override
    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        pass

    @override
    def agreed(self, choice: str) -> str:
        return choice


@dataclass(frozen=True, slots=True)
class Together(Ranks):
    """A run in `size` processes with torch's default process group."""

    rank: int
    size: int

    @property
    @override
    def first(self) -> bool:
        return self.rank == 0

    @override
    def share(self, examples: Sequence[Rendered]) -> list[Rendered]:
        return shares(examples, self.size)[self.rank]

    @override
    def total(self, *numbers: float) -> tuple[float, ...]:
        sums = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(sums)
        return tuple(sums.tolist())

    @override
    def passes(self, trees: Sequence[Packed]) -> list[Packed]:
        return [t for t in trees if len(t.rows_R)]

    @override
    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """By one all-reduce. A rank without examples adds zeros; what no rank has a gradient for keeps none."""
        flat = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        present = flat[0].new_tensor([p.grad is not None for p in parameters])
        sums = torch.cat([g.flatten() for g in (*flat, present)])
        del flat
        dist.all_reduce(sums)
        *pieces, present = sums.split([*(p.numel() for p in parameters), len(parameters)])
        for p, piece, n in zip(parameters, pieces, present.tolist(), strict=True):
            p.grad = piece.view_as(p) if n else None

    @override
    def agreed(self, choice: str) -> str:
        said: list[str] = [choice]
        dist.broadcast_object_list(said, src=0)
        return said[0]


class Sharded(Together):
    """Ranks that each hold a slice of the weights: every forward and backward pass is one that all of them make."""

    @override
    def passes(self, trees: Sequence[Packed]) -> list[Packed]:
        mine = [t for t in trees if len(t.rows_R)]
        most = torch.tensor(len(mine))
        dist.all_reduce(most, dist.ReduceOp.MAX)
        return mine + [idle()] * (int(most) - len(mine))

    @override
    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """The backward passes have done so."""


ALONE = Alone()


def leads() -> bool:
    """Whether this process is the first rank, or the only one."""
    return _place()[0] == 0


def _place() -> tuple[int, int]:
    """(rank, number of ranks), from torchrun's environment."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(lock: Path, sharding: Sharding, device: Device = ON_CPU) -> Iterator[Ranks]:
    """The ranks of this run, as torchrun's environment tells; one process without it. The first holds the file `lock`.

    Raises RankLost inside where another rank is gone.
    """
    rank, size = _place()
    # A second trainer waits: a run orphaned by a killed parent is finished, not fought over.
    with locked(lock) if rank == 0 else nullcontext():
        if size == 1:
            yield ALONE
        else:
            with _group(rank, size, sharding, device) as ranks:
                yield ranks


@contextmanager
def _group(rank: int, size: int, sharding: Sharding, device: Device) -> Iterator[Together]:
    def told_to_end(_number: int, _frame: FrameType | None) -> None:
        raise RankLost(rank, "torchrun said so")

    dist.init_process_group(device.backends, timeout=_PATIENCE)
    before = signal.signal(signal.SIGTERM, told_to_end)  # not sooner: no handler can run while the call above waits
    try:
        yield Sharded(rank, size) if sharding == "full" else Together(rank, size)
    except dist.DistError as error:
        raise RankLost(rank, type(error).__name__) from error
    except RuntimeError as error:
        if "gloo" not in str(error):  # gloo's own errors have no type of theirs
            raise
        raise RankLost(rank, "its connection closed") from error
    finally:
        signal.signal(signal.SIGTERM, before)
        dist.destroy_process_group()

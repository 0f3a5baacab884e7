"""How many bytes of tensors a computation holds, phase by phase, whoever makes the tensors."""
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import override


class Meter(Protocol):
    """Watches a computation's memory while entered; `peaks` holds the most bytes that lived at once in each phase."""

    peaks: list[int]

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> None: ...

    def mark(self, *_: object) -> None:
        """The next phase begins."""
        ...


class AllocatedBytes:
    """A meter of a CUDA device: what torch's allocator has handed out beyond what was there before, workspaces included."""

    def __init__(self, where: torch.device) -> None:
        self.peaks = [0]
        self._where = where
        self._before = 0

    def __enter__(self) -> Self:
        self._before = torch.cuda.memory_allocated(self._where)
        torch.cuda.reset_peak_memory_stats(self._where)
        return self

    def __exit__(self, kind: object, error: object, trace: object, /) -> None:
        self._note()

    def mark(self, *_: object) -> None:
        self._note()
        self.peaks.append(0)

    def _note(self) -> None:
        self.peaks[-1] = torch.cuda.max_memory_allocated(self._where) - self._before
        torch.cuda.reset_peak_memory_stats(self._where)


class LiveBytes(TorchDispatchMode):
    """While entered, counts the storages that operators make, once each, until they are freed.

    What was there before (weights) is not counted, nor what an operator uses inside (a kernel's workspace). A meter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peaks = [0]
        self._known: set[int] = set()

    def mark(self, *_: object) -> None:
        self.peaks.append(self.live)

    @override
    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[object] = (), kwargs: Mapping[str, object] | None = None
    ) -> Any:
        """Run the operator and count storages in its results that are not its inputs'."""
        out = func(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in _tensors((args, kwargs))}
        for x in _tensors(out):
            self._count(x, given)
        self.peaks[-1] = max(self.peaks[-1], self.live)
        return out

    def _count(self, x: Tensor, given: set[int]) -> None:
        storage = x.untyped_storage()
        key, n_bytes = storage._cdata, storage.nbytes()
        if key in given or key in self._known:
            return
        self._known.add(key)
        self.live += n_bytes
        weakref.finalize(storage, self._free, key, n_bytes)

    def _free(self, key: int, n_bytes: int) -> None:
        self._known.discard(key)
        self.live -= n_bytes


def _tensors(tree: object) -> Iterable[Tensor]:
    return (x for x in tree_leaves(tree) if isinstance(x, Tensor))


def phases(layers: Sequence[nn.Module], forward: Callable[[], Tensor], meter: Meter | None = None) -> list[int]:
    """Peak bytes in each phase of `forward()` and its backward pass; a phase ends where a layer begins, either way.

    The phases are the same for any input, so two measurements can be compared phase by phase.
    """
    with meter or LiveBytes() as live:

        def begins(_: nn.Module, __: object) -> None:
            live.mark()

        def ends(_: nn.Module, __: object, out: object) -> None:
            for x in _tensors(out):
                if x.requires_grad:
                    x.register_hook(live.mark)  # the gradient is here: the layer's backward pass begins

        hooks = [h for x in layers for h in (x.register_forward_pre_hook(begins), x.register_forward_hook(ends))]
        try:
            loss = forward()
            live.mark()
            loss.backward()
        finally:
            for hook in hooks:
                hook.remove()
    return live.peaks

"""`python -m feinschliff.train RUN_DIR …`. Exit 0: finished; 1: failed, the last event of the run says why."""
import contextlib
import os
import sys
import traceback
from collections.abc import Generator, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError

from feinschliff.catalog.available import all_bytes
from feinschliff.core.errors import FeinschliffError
from feinschliff.core.jobs import Failed, TrainSpec
from feinschliff.core.service_errors import NoRoom, is_full
from feinschliff.train.device import chosen
from feinschliff.train.events import EventLog
from feinschliff.train.loop import Bases, steps
from feinschliff.train.parallel import joined, leads
from feinschliff.train.resident import peak_bytes

AGAIN = "Check free space and permissions, then run the same command again: it goes on from the last saved step."

LESS = "Use a smaller batch_size, shorter examples, LoRA, or a smaller model; or run it where there is more memory."
FULL = ("os error 28", "os error 122", "os error 27")  # safetensors' words for ENOSPC, EDQUOT, EFBIG
NO_MEMORY = ("can't allocate memory", "out of memory", "Cannot allocate memory")


def main(run_dirs: Sequence[Path]) -> int:
    """Train all of `run_dirs`, their steps taking turns, over one copy of each base model; one that fails leaves the others be."""
    bases = Bases()
    waiting = {run_dir: _steps(run_dir, bases) for run_dir in run_dirs}
    code = 0
    while waiting:
        for run_dir, steps_left in list(waiting.items()):
            try:
                next(steps_left)
            except StopIteration as ended:
                del waiting[run_dir]
                code = max(code, ended.value)
    return code


def _steps(run_dir: Path, bases: Bases) -> Generator[int, None, int]:
    """Yield after every optimizer step; the exit code comes last."""
    try:
        spec = TrainSpec.model_validate_json((run_dir / "spec.json").read_text(encoding="utf-8"))
        device = chosen(spec.device)
        with joined(run_dir / "lock", spec.sharding, device) as ranks:
            yield from steps(run_dir, spec, ranks, bases, device)
    except (FeinschliffError, ValidationError, OSError, MemoryError, torch.OutOfMemoryError) as error:
        return _failed(run_dir, _describe(error))
    except Exception as error:  # noqa: BLE001  the process boundary: torch and safetensors say "disk full" as RuntimeError and their own
        traceback.print_exc()
        return _failed(run_dir, _foreign(error))
    return 0


def _failed(run_dir: Path, event: Failed) -> int:
    with contextlib.suppress(OSError):  # on a full disk the log may be all that can be written, or not even that
        EventLog(run_dir / "events.jsonl", writes=leads()).append(event)
    sys.stderr.write(f"{event.message} {event.hint}\n")
    return 1


def _describe(error: Exception) -> Failed:
    if is_full(error):
        return _no_room(error)
    if isinstance(error, FeinschliffError):
        return Failed(code=error.code, message=error.message, hint=error.hint)
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return _out_of_memory(str(error))
    if isinstance(error, ValidationError):
        return Failed(code="bad_spec", message=str(error))
    return Failed(code="io_error", message=str(error), hint=AGAIN)


def _foreign(error: Exception) -> Failed:
    """Errors of torch and safetensors are told apart by what they say."""
    reason = (str(error).strip().splitlines() or [""])[0]
    if is_full(error) or any(said in str(error) for said in FULL):
        return _no_room(error)
    if any(said in str(error) for said in NO_MEMORY):
        return _out_of_memory(reason)
    return Failed(code="crashed", message=f"{type(error).__name__}: {reason}", hint=AGAIN)


def _no_room(error: Exception) -> Failed:
    return Failed(code=NoRoom.code, message=f"The disk is full: {error}.", hint=AGAIN)


def _out_of_memory(reason: str) -> Failed:
    numbers = f"{peak_bytes() >> 20:,} MiB were in use at most, {all_bytes() >> 20:,} MiB are allowed"
    return Failed(code="out_of_memory", message=f"There is not enough memory ({numbers}): {reason}", hint=LESS)


def _usage(names: Sequence[str]) -> str | None:
    """What is wrong with the command line, if anything."""
    if not names:
        return "Name the run folders to train: python -m feinschliff.train RUN_DIR …"
    if missing := [name for name in names if not (Path(name) / "spec.json").is_file()]:
        return f"{missing[0]} is not a run folder: it has no spec.json."
    if len(names) > 1 and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return "Under torchrun, name one run folder: several runs in one process are for one device."
    return None


if __name__ == "__main__":
    if wrong := _usage(sys.argv[1:]):
        sys.stderr.write(wrong + "\n")
        sys.exit(2)
    sys.exit(main([Path(name) for name in sys.argv[1:]]))

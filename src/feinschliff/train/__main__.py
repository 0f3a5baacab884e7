"""`python -m feinschliff.train RUN_DIR`. Exit 0: finished; 1: failed, the last event says why."""
import os
import sys
from pathlib import Path

import torch
from pydantic import ValidationError

from feinschliff.core.errors import FeinschliffError
from feinschliff.core.jobs import Failed, TrainSpec
from feinschliff.train.events import EventLog
from feinschliff.train.lock import exclusive
from feinschliff.train.loop import train


def main(run_dir: Path) -> int:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    try:
        spec = TrainSpec.model_validate_json((run_dir / "spec.json").read_text(encoding="utf-8"))
        with exclusive(run_dir):
            train(run_dir, spec)
    except (FeinschliffError, ValidationError, OSError, MemoryError) as error:
        failed = _describe(error)
        EventLog(run_dir / "events.jsonl").append(failed)
        sys.stderr.write(f"{failed.message} {failed.hint}\n")
        return 1
    return 0


def _describe(error: Exception) -> Failed:
    if isinstance(error, FeinschliffError):
        return Failed(code=error.code, message=error.message, hint=error.hint)
    if isinstance(error, MemoryError):
        return Failed(code="out_of_memory", message=str(error), hint="Lower budget_tokens or use LoRA.")
    return Failed(code="bad_spec" if isinstance(error, ValidationError) else "io_error", message=str(error))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""`python -m feinschliff.train RUN_DIR`. Exit 0: finished; 1: failed, the last event says why."""
import contextlib
import sys
import traceback
from pathlib import Path

from pydantic import ValidationError

from feinschliff.core.errors import FeinschliffError
from feinschliff.core.jobs import Failed, TrainSpec
from feinschliff.train.events import EventLog
from feinschliff.train.loop import train
from feinschliff.train.parallel import joined, leads

AGAIN = "Check free space and permissions, then run the same command again: it goes on from the last saved step."


def main(run_dir: Path) -> int:
    try:
        spec = TrainSpec.model_validate_json((run_dir / "spec.json").read_text(encoding="utf-8"))
        with joined(run_dir / "lock", spec.sharding) as ranks:
            train(run_dir, spec, ranks)
    except (FeinschliffError, ValidationError, OSError, MemoryError) as error:
        return _failed(run_dir, _describe(error))
    except Exception as error:  # noqa: BLE001  the process boundary: torch and safetensors say "disk full" as RuntimeError and their own
        traceback.print_exc()
        reason = (str(error).strip().splitlines() or [""])[0]
        return _failed(run_dir, Failed(code="crashed", message=f"{type(error).__name__}: {reason}", hint=AGAIN))
    return 0


def _failed(run_dir: Path, event: Failed) -> int:
    with contextlib.suppress(OSError):  # on a full disk the log may be all that can be written, or not even that
        EventLog(run_dir / "events.jsonl", writes=leads()).append(event)
    sys.stderr.write(f"{event.message} {event.hint}\n")
    return 1


def _describe(error: Exception) -> Failed:
    if isinstance(error, FeinschliffError):
        return Failed(code=error.code, message=error.message, hint=error.hint)
    if isinstance(error, MemoryError):
        return Failed(code="out_of_memory", message=str(error), hint="Lower budget_tokens or use LoRA.")
    if isinstance(error, ValidationError):
        return Failed(code="bad_spec", message=str(error))
    return Failed(code="io_error", message=str(error), hint=AGAIN)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

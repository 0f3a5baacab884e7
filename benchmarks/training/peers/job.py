"""What a peer's script is given and what it hands back; standard library only, since every peer has its own environment."""
import json
import resource
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One measurement, from the JSON file named on the command line."""

    model: str  # model folder
    adapter: str  # PEFT folder of the adapter that every system starts from
    tokens: str  # rows {"tokens": [...], "trained": [0 or 1, ...]}, in the order of the steps
    out: str  # folder for what the peer writes
    result: str  # JSON file to write
    batch: int  # examples per optimizer step
    micro_batch: int  # of them at a time
    steps: int  # optimizer steps, the one that warms up included
    learning_rate: float
    precision: str  # "fp32" or "bf16"
    rank: int
    alpha: float
    padding_free: bool
    packing: bool
    packed_tokens: int  # length of a packed row
    device: str  # "cpu" or "cuda"
    liger: bool


@dataclass
class Measured:
    """Filled in while the peer trains."""

    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    examples: list[int] = field(default_factory=list)
    computed_tokens: list[int] = field(default_factory=list)  # padding included
    peak_rss_bytes: int = 0
    notes: list[str] = field(default_factory=list)
    device: str = "cpu"

    def settle(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()

    def note_memory(self) -> None:
        if self.device == "cuda":
            import torch

            self.peak_rss_bytes = torch.cuda.max_memory_allocated()
            return
        self.peak_rss_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def read_job() -> Job:
    return Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))


def rows(job: Job) -> list[dict[str, list[int]]]:
    with Path(job.tokens).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines][: job.steps * job.batch]


def write_result(job: Job, measured: Measured, packages: list[str]) -> None:
    import torch

    result = {**vars(measured), "threads": torch.get_num_threads(), "versions": {p: v for p in packages if (v := _version(p))}}
    Path(job.result).write_text(json.dumps(result, indent=1), encoding="utf-8")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

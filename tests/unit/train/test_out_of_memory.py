"""The training program where memory is short or the disk full, from the real cause: limits of the process itself."""
import subprocess
import sys

import pytest

from feinschliff.core.jobs import Hyperparameters, TrainSpec
from feinschliff.train.events import EventLog

LINE = '{"messages": [{"role": "user", "content": "%d"}, {"role": "assistant", "content": "%d"}]}\n'
# The limit comes once the libraries are loaded: it is to meet the training.
LIMITED = """
import resource, sys
from pathlib import Path
import torch, transformers
import feinschliff.train.__main__ as program
torch.set_num_threads(1)
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
kind, most = getattr(resource, sys.argv[2]), int(sys.argv[3])
most += taken if kind == resource.RLIMIT_AS else 0
resource.setrlimit(kind, (most, most))
sys.exit(program.main([Path(sys.argv[1])]))
"""


def failed(folder, model, limit, most):
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(LINE % (i, i) for i in range(12)))
    spec = TrainSpec(model=str(model), train_files=("train.jsonl",), hyperparameters=Hyperparameters(n_epochs=2, batch_size=4))
    (folder / "spec.json").write_text(spec.model_dump_json())
    ended = subprocess.run([sys.executable, "-c", LIMITED, folder, limit, str(most)], capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    return EventLog(folder / "events.jsonl").read()[-1]


@pytest.mark.parametrize("most", [1 << 16, 1 << 20])
def test_out_of_memory_is_told_with_numbers_and_a_remedy(tmp_path, tiny_model, most):
    event = failed(tmp_path / "run", tiny_model, "RLIMIT_AS", most)
    assert event.code == "out_of_memory", event
    assert "MiB were in use at most" in event.message
    assert "smaller batch_size" in event.hint


@pytest.mark.parametrize("most", [2_000, 20_000])
def test_a_file_that_cannot_grow_is_a_full_disk(tmp_path, tiny_model, most):
    """Adapters and states are of other libraries; each says it in its own words."""
    event = failed(tmp_path / "run", tiny_model, "RLIMIT_FSIZE", most)
    assert event.code == "insufficient_storage", event

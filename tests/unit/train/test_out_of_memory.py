"""The training program where memory is short or the disk full, from the real cause."""
import resource
import subprocess
import sys
from functools import partial

import pytest
import torch

from feinschliff.core.jobs import Hyperparameters, TrainSpec
from feinschliff.train.__main__ import _foreign
from feinschliff.train.events import EventLog

LINE = '{"messages": [{"role": "user", "content": "%d"}, {"role": "assistant", "content": "%d"}]}\n'


def failed(folder, model, largest_file):
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(LINE % (i, i) for i in range(12)))
    spec = TrainSpec(model=str(model), train_files=("train.jsonl",), hyperparameters=Hyperparameters(n_epochs=2, batch_size=4))
    (folder / "spec.json").write_text(spec.model_dump_json())
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (largest_file, largest_file))
    ended = subprocess.run([sys.executable, "-m", "feinschliff.train", folder], capture_output=True, text=True, preexec_fn=limit, check=False)
    assert ended.returncode == 1, ended.stderr
    return EventLog(folder / "events.jsonl").read()[-1]


def test_out_of_memory_is_told_with_numbers_and_a_remedy():
    """torch's own words for more than any machine has. (A limit on a whole tiny training ends in a crash of torch's threads instead.)"""
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 50, dtype=torch.uint8)
    event = _foreign(refused.value)
    assert event.code == "out_of_memory", event
    assert "tried to allocate 1125899906842624 bytes" in event.message
    assert "MiB were in use at most" in event.message
    assert "smaller batch_size" in event.hint


@pytest.mark.parametrize("most", [2_000, 20_000])
def test_a_file_that_cannot_grow_is_a_full_disk(tmp_path, tiny_model, most):
    """Adapters and states are of other libraries; each says it in its own words."""
    event = failed(tmp_path / "run", tiny_model, most)
    assert event.code == "insufficient_storage", event
